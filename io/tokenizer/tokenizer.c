/* tokenizer.c - a tokenizer of any kind: opened by its name, saved to a folder, text to ids and back. */
#include "io/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/text/stream.h"
#include "io/base/json.h"
#include "io/tokenizer/added.h"
#include "io/tokenizer/marks.h"
#include "io/base/utf8.h"
#include "shard/spec.h"

static const char format_name[] = "gptdist-tokenizer";
/* The description in a saved folder, and its former name, which Hugging Face's own format has, too. */
static const char *const descriptions[] = {"gptdist-tokenizer.json", "tokenizer.json"};
enum { DESCRIPTIONS = sizeof descriptions / sizeof *descriptions };

/* How a kind is opened: the names of its files in a saved folder. */
static const struct kind_files {
  const char *kind;
  gd_status (*build)(gd_tokenizer *, const char *);
  int32_t count;
  const char *files[GD_TOKENIZER_FILES];
  bool beside; /* files beside these may say what ends a text */
} kinds[] = {
    {"gpt2", gd_tokenizer_build_gpt2, 2, {"vocab.json", "merges.txt"}, true},
    {"tiktoken", gd_tokenizer_build_tiktoken, 1, {"ranks.tiktoken", NULL}, false},
    {"hf", gd_tokenizer_build_huggingface, 1, {"huggingface.json", NULL}, true},
    {"llama2c", gd_tokenizer_build_llama2c, 1, {"tokenizer.bin", NULL}, false},
    {"bytes", gd_tokenizer_build_bytes, 0, {NULL, NULL}, false},
    {"chars", gd_tokenizer_build_chars, 1, {"chars.txt", NULL}, false},
};

/* ---- opening ---- */

static gd_status allocate(const struct kind_files *kind, gd_tokenizer **out) {
  gd_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
  *out = tokenizer;
  if (!tokenizer) return gd_fail(GD_NO_MEMORY, "no memory for a tokenizer");
  tokenizer->spec_kind = kind->kind;
  tokenizer->eot = tokenizer->bos = -1;
  for (int32_t i = 0; i < kind->count; i++) strcpy(tokenizer->files[i].name, kind->files[i]);
  tokenizer->file_count = kind->count;
  return GD_OK;
}

/* gptdist-tokenizer.json of an open tokenizer. */
static gd_status describe(const gd_tokenizer *tokenizer, gd_bytes *out) {
  bool added = tokenizer->added_count > 0, told = added || gd_marks_told(tokenizer);
  GD_TRY(gd_bytes_printf(out, "{\n  \"format\": \"%s\",\n  \"version\": %d,\n  \"kind\": \"%s\",\n  \"vocabulary\": %d,\n",
                         format_name,
                         added  ? 3
                         : told ? 2
                                : 1,
                         tokenizer->spec_kind, tokenizer->vocabulary));
  GD_TRY(told ? gd_marks_write(tokenizer, out) : gd_bytes_printf(out, "  \"eot\": %d,\n", tokenizer->eot));
  if (added) GD_TRY(gd_added_write(tokenizer, out));
  return gd_bytes_printf(out, "  \"digest\": \"%s\"\n}\n", tokenizer->digest);
}

/* What a folder says of its files. */
typedef struct description {
  const char *path;
  gd_bytes text;
  const gd_json *root; /* of the text */
  int64_t version;
  char digest[GD_SHA256_HEX_BYTES];
  const char **added; /* [added_count] tokens behind those of the files */
  int32_t added_count;
} description;

static gd_status compare_digest(const struct kind_files *kind, const gd_tokenizer *tokenizer, const char *const *paths,
                                const description *said) {
  if (strcmp(tokenizer->digest, said->digest) == 0) return GD_OK;
  const char *first = kind->count ? paths[0] : said->path, *second = kind->count > 1 ? paths[1] : NULL;
  return gd_fail_user(
      GD_BAD_DATA,
      "tokenizer %s: %s%s%s is damaged: the digest of what was found is %s, %s expects %s; copy the folder from "
      "where it is whole",
      kind->kind, first, second ? " or " : "", second ? second : "", tokenizer->digest, said->path, said->digest);
}

static gd_status compare_description(const gd_tokenizer *tokenizer, const description *said) {
  gd_bytes text = {0};
  gd_status status = describe(tokenizer, &text);
  if (status == GD_OK && (text.count != said->text.count || memcmp(text.bytes, said->text.bytes, text.count) != 0))
    status =
        gd_fail_user(GD_BAD_DATA,
                     "%s: is damaged: it is not the description of the tokenizer %s (vocabulary %d, eot %d) in this folder; "
                     "copy the folder from where it is whole",
                     said->path, tokenizer->spec_kind, tokenizer->vocabulary, tokenizer->eot);
  gd_bytes_free(&text);
  return status;
}

/* Whether a file is there. Where the system does not say it is a fault, and nothing is known of the tokenizer. */
static gd_status look_for_file(const char *path, bool *there) {
  gd_path_kind kind;
  GD_TRY(gd_path_look(path, &kind));
  *there = kind == GD_PATH_FILE;
  return GD_OK;
}

static void keep_own(gd_tokenizer *tokenizer) {
  tokenizer->own_vocabulary = tokenizer->vocabulary;
  tokenizer->own_eot = tokenizer->eot;
  tokenizer->own_bos = tokenizer->bos;
}

/* paths[kind->count] are the files of the kind; `said` is NULL where nobody says what they should be. */
static gd_status open_files(const struct kind_files *kind, const char *const *paths, const description *said,
                            gd_tokenizer **out) {
  *out = NULL;
  gd_tokenizer *tokenizer = NULL;
  gd_status status = allocate(kind, &tokenizer);
  for (int32_t i = 0; status == GD_OK && i < kind->count; i++) {
    bool there = false;
    status = look_for_file(paths[i], &there);
    if (status == GD_OK && !there) status = gd_fail_user(GD_BAD_DATA, "tokenizer %s: %s: is missing", kind->kind, paths[i]);
    gd_bytes *bytes = &tokenizer->files[i].bytes;
    if (status == GD_OK)
      status = said ? gd_file_read(paths[i], GD_TOKENIZER_FILE_LIMIT, bytes) /* never packed */
                    : gd_text_stream_read_all(paths[i], GD_TOKENIZER_FILE_LIMIT, bytes);
    if (status == GD_OK && !tokenizer->files[i].bytes.count)
      status = gd_fail_user(GD_BAD_DATA, "tokenizer %s: %s: the file is empty", kind->kind, paths[i]);
  }
  if (status == GD_OK) status = gd_added_digest(tokenizer, said ? said->added : NULL, said ? said->added_count : 0);
  if (status == GD_OK && said) status = compare_digest(kind, tokenizer, paths, said);
  if (status == GD_OK) status = kind->build(tokenizer, kind->count ? paths[0] : kind->kind);
  if (status == GD_OK) keep_own(tokenizer);
  for (int32_t i = 0; said && status == GD_OK && i < said->added_count; i++)
    status = gd_added_append(tokenizer, said->added[i]);
  if (status == GD_USAGE) status = gd_error_context(GD_BAD_DATA, "%s: is damaged", said->path);
  if (status == GD_OK && !said && kind->beside) status = gd_marks_read(tokenizer, paths[0]);
  if (status == GD_OK && said && said->version > 1) status = gd_marks_restore(tokenizer, said->root, said->path);
  if (status == GD_OK && said) status = compare_description(tokenizer, said);
  if (status != GD_OK) {
    gd_tokenizer_close(tokenizer);
    return status;
  }
  *out = tokenizer;
  return GD_OK;
}

static const struct kind_files *kind_of(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strlen(kinds[i].kind) == length && memcmp(kinds[i].kind, name, length) == 0) return &kinds[i];
  return NULL;
}

/* encoder.json + vocab.bpe or vocab.json + merges.txt. */
static gd_status open_gpt2(const char *folder, gd_tokenizer **out) {
  static const char *const names[][2] = {{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}};
  char vocab[GD_PATH_BYTES], merges[GD_PATH_BYTES];
  for (size_t i = 0; i < 2; i++) {
    GD_TRY(gd_path_join(vocab, sizeof vocab, folder, names[i][0]));
    GD_TRY(gd_path_join(merges, sizeof merges, folder, names[i][1]));
    const char *const paths[] = {vocab, merges};
    bool first = false, second = false;
    GD_TRY(look_for_file(vocab, &first));
    GD_TRY(look_for_file(merges, &second));
    if (first && second) return open_files(kind_of("gpt2", 4), paths, NULL, out);
  }
  return gd_fail_user(GD_BAD_DATA,
                      "tokenizer gpt2: %s: expected encoder.json and vocab.bpe, or vocab.json and merges.txt there", folder);
}

/* A description in `folder`: our own, which names the kind, or Hugging Face's where the name may be theirs. */
static gd_status open_described(const char *folder, const char *path, bool theirs, gd_tokenizer **out) {
  gd_json *root = NULL;
  description said = {.path = path, .version = 1};
  gd_status status = gd_file_read(path, GD_TOKENIZER_FILE_LIMIT, &said.text);
  if (status == GD_OK) status = gd_json_parse(said.text.bytes, said.text.count, path, 1, &root);
  const char *format = gd_json_string(gd_json_get(root, "format")), *name = gd_json_string(gd_json_get(root, "kind"));
  const char *digest = gd_json_string(gd_json_get(root, "digest"));
  bool ours = !theirs || (format && strcmp(format, format_name) == 0);
  const struct kind_files *kind = kind_of(ours ? (name ? name : "") : "hf", ours ? (name ? strlen(name) : 0) : 2);
  if (status == GD_OK && ours &&
      (!kind || !gd_json_integer(gd_json_get(root, "version"), &said.version) || said.version < 1 || said.version > 3))
    status = gd_fail_user(GD_BAD_DATA, "%s: kind \"%s\", version %lld: not known to this program", path, name ? name : "",
                          (long long)said.version);
  snprintf(said.digest, sizeof said.digest, "%s", digest ? digest : "");
  said.root = root;
  char full[GD_TOKENIZER_FILES][GD_PATH_BYTES];
  const char *paths[GD_TOKENIZER_FILES] = {full[0], full[1]};
  if (!ours) paths[0] = path;
  if (status == GD_OK && ours) status = gd_added_read(root, path, &said.added, &said.added_count);
  for (int32_t i = 0; status == GD_OK && ours && i < kind->count; i++)
    status = gd_path_join(full[i], sizeof full[i], folder, kind->files[i]);
  if (status == GD_OK) status = open_files(kind, paths, ours ? &said : NULL, out);
  free(said.added);
  gd_json_free(root);
  gd_bytes_free(&said.text);
  return status;
}

static gd_status open_folder(const char *folder, gd_tokenizer **out) {
  char path[GD_PATH_BYTES], below[GD_PATH_BYTES];
  const char *const folders[] = {folder, below};
  GD_TRY(gd_path_join(below, sizeof below, folder, "tokenizer"));
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < DESCRIPTIONS; k++) {
      GD_TRY(gd_path_join(path, sizeof path, folders[i], descriptions[k]));
      bool there = false;
      GD_TRY(look_for_file(path, &there));
      if (there) return open_described(folders[i], path, k > 0, out);
    }
  return open_gpt2(folder, out);
}

gd_status gd_tokenizer_open(const char *spec, gd_tokenizer **out) {
  *out = NULL;
  const char *colon = strchr(spec, ':');
  if (strcmp(spec, "bytes") == 0) return open_files(kind_of("bytes", 5), NULL, NULL, out);
  if (strcmp(spec, "chars") == 0)
    return gd_fail_user(GD_USAGE,
                        "tokenizer chars: only gptdist-data prepare can make it from a text; expected chars:FILE or the folder "
                        "of a dataset");
  gd_path_kind what;
  GD_TRY(gd_path_look(spec, &what));
  if (what == GD_PATH_FOLDER) return open_folder(spec, out);
  const struct kind_files *kind = colon ? kind_of(spec, (size_t)(colon - spec)) : NULL;
  if (!kind || !kind->count || !colon[1])
    return gd_fail_user(GD_USAGE,
                        "tokenizer \"%s\" is not known, expected gpt2:DIR, tiktoken:FILE, hf:tokenizer.json, llama2c:FILE, "
                        "bytes, chars or a folder",
                        spec);
  const char *path = colon + 1;
  GD_TRY(gd_path_named(path, kind->count == 2 ? GD_PATH_FOLDER : GD_PATH_FILE, "the tokenizer that was named"));
  if (kind->count == 2) return open_gpt2(path, out);
  return open_files(kind, &path, NULL, out);
}

gd_status gd_tokenizer_check(const char *folder, const char *digest) {
  gd_tokenizer *tokenizer;
  GD_TRY(gd_tokenizer_open(folder, &tokenizer));
  gd_status status = GD_OK;
  if (strcmp(tokenizer->digest, digest) != 0)
    status = gd_fail_user(GD_BAD_DATA, "%s: is another tokenizer: its digest is %s, the data were made with %s", folder,
                          tokenizer->digest, digest);
  gd_tokenizer_close(tokenizer);
  return status;
}

static int by_code_point(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

gd_status gd_tokenizer_from_characters(const char *text, size_t count, gd_tokenizer **out) {
  *out = NULL;
  uint8_t *seen = calloc(0x110000, 1);
  uint32_t *list = malloc(0x110000 * sizeof *list);
  size_t found = 0;
  gd_tokenizer *tokenizer = NULL;
  const struct kind_files *kind = kind_of("chars", 5);
  gd_status status = seen && list ? allocate(kind, &tokenizer) : gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  for (size_t i = 0; status == GD_OK && i < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(text + i, count - i, &code_point);
    if (!length) {
      status = gd_fail_user(GD_BAD_DATA, "byte %zu is no UTF-8, the chars tokenizer knows no bytes", i);
      break;
    }
    if (!seen[code_point]) {
      seen[code_point] = 1;
      list[found++] = code_point;
    }
    i += length;
  }
  if (found) qsort(list, found, sizeof *list, by_code_point);
  for (size_t i = 0; status == GD_OK && i < found; i++) status = gd_utf8_append(&tokenizer->files[0].bytes, list[i]);
  free(seen);
  free(list);
  if (status == GD_OK) status = gd_added_digest(tokenizer, NULL, 0);
  if (status == GD_OK) status = kind->build(tokenizer, "chars");
  if (status == GD_OK) keep_own(tokenizer);
  if (status != GD_OK) {
    gd_tokenizer_close(tokenizer);
    return status;
  }
  *out = tokenizer;
  return GD_OK;
}

void gd_tokenizer_close(gd_tokenizer *tokenizer) {
  if (!tokenizer) return;
  if (tokenizer->kind) tokenizer->kind->close(tokenizer->state);
  gd_specials_free(&tokenizer->specials);
  for (int32_t i = 0; i < tokenizer->file_count; i++) gd_bytes_free(&tokenizer->files[i].bytes);
  free(tokenizer);
}

const char *gd_tokenizer_name(const gd_tokenizer *tokenizer) {
  return tokenizer->kind->name;
}
int32_t gd_tokenizer_vocabulary(const gd_tokenizer *tokenizer) {
  return tokenizer->vocabulary;
}
int32_t gd_tokenizer_eot(const gd_tokenizer *tokenizer) {
  return tokenizer->eot;
}
int32_t gd_tokenizer_bos(const gd_tokenizer *tokenizer) {
  return tokenizer->bos;
}
const char *gd_tokenizer_digest(const gd_tokenizer *tokenizer) {
  return tokenizer->digest;
}
bool gd_tokenizer_cuts(const gd_tokenizer *tokenizer) {
  return tokenizer->kind->cuts;
}

/* ---- text and ids ---- */

int32_t gd_tokenizer_find_special(const gd_tokenizer *tokenizer, const char *bytes, size_t count, size_t *at, size_t *length) {
  const gd_special *special = gd_specials_find(&tokenizer->specials, bytes, count, true, at);
  *length = special ? special->length : 0;
  return special ? special->id : -1;
}

/* Length of the white space at an end of bytes[count]. */
static size_t blank_before(const char *bytes, size_t count) {
  size_t blank = 0;
  for (size_t i = 0; i < count;) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(bytes + i, count - i, &code_point);
    blank = length && gd_utf8_is_space(code_point) ? blank + length : 0;
    i += length ? length : 1;
  }
  return blank;
}

static size_t blank_behind(const char *bytes, size_t count) {
  size_t blank = 0;
  while (blank < count) {
    uint32_t code_point = 0;
    size_t length = gd_utf8_length(bytes + blank, count - blank, &code_point);
    if (!length || !gd_utf8_is_space(code_point)) break;
    blank += length;
  }
  return blank;
}

gd_status gd_tokenizer_encode(gd_tokenizer *tokenizer, const char *bytes, size_t count, bool allow_special, gd_ids *out) {
  bool first = true;
  for (size_t at = 0; count; first = false) {
    const gd_special *special = gd_specials_find(&tokenizer->specials, bytes, count, allow_special, &at);
    if (!special) break;
    size_t end = at + special->length;
    if (special->lstrip) at -= blank_before(bytes, at);
    if (special->rstrip) end += blank_behind(bytes + end, count - end);
    if (at) GD_TRY(tokenizer->kind->encode(tokenizer->state, first, bytes, at, out));
    GD_TRY(gd_ids_append(out, &special->id, 1));
    bytes += end;
    count -= end;
  }
  return count ? tokenizer->kind->encode(tokenizer->state, first, bytes, count, out) : GD_OK;
}

gd_status gd_tokenizer_decode(const gd_tokenizer *tokenizer, int32_t previous, const int32_t *ids, size_t count,
                              gd_bytes *out) {
  size_t begin = 0;
  for (size_t i = 0; i <= count; i++) {
    const char *added = i < count ? gd_added_text(tokenizer, ids[i]) : NULL;
    if (i < count && !added) continue;
    if (i > begin)
      GD_TRY(tokenizer->kind->decode(tokenizer->state, begin ? ids[begin - 1] : previous, ids + begin, i - begin, out));
    if (added) GD_TRY(gd_bytes_append(out, added, strlen(added)));
    begin = i + 1;
  }
  return GD_OK;
}

bool gd_tokenizer_has(const gd_tokenizer *tokenizer, int32_t id) {
  gd_bytes text = {0};
  if (id < 0 || id >= tokenizer->vocabulary) return false;
  gd_status status = gd_tokenizer_decode(tokenizer, -1, &id, 1, &text);
  gd_bytes_free(&text);
  if (status != GD_OK) gd_error_clear();
  return status == GD_OK;
}

gd_status gd_tokenizer_save(const gd_tokenizer *tokenizer, const char *folder) {
  char path[GD_PATH_BYTES];
  gd_bytes text = {0};
  GD_TRY(gd_folder_make(folder));
  for (int32_t i = 0; i < tokenizer->file_count; i++) {
    const gd_tokenizer_file *file = &tokenizer->files[i];
    GD_TRY(gd_path_join(path, sizeof path, folder, file->name));
    GD_TRY(gd_file_write(path, file->bytes.bytes, file->bytes.count));
  }
  GD_TRY(gd_path_join(path, sizeof path, folder, descriptions[0]));
  gd_status status = describe(tokenizer, &text);
  if (status == GD_OK) status = gd_file_write(path, text.bytes, text.count);
  gd_bytes_free(&text);
  return status == GD_OK ? gd_folder_sync(folder) : status;
}
