/* marks.c - what begins and ends a text or a turn, as the files beside a tokenizer say: generation_config.json, config.json and
 * tokenizer_config.json of a Hugging Face folder. What they say is kept in gptdist-tokenizer.json, since the tokenizer's own
 * files do not tell. */
#include <stdio.h>
#include <string.h>

#include "io/base/json.h"
#include "io/tokenizer/marks.h"
#include "shard/spec.h"

enum { FILE_LIMIT = 16 << 20 };

bool gd_tokenizer_ends(const gd_tokenizer *tokenizer, int32_t id) {
  if (id < 0) return false;
  for (int32_t i = 0; i < tokenizer->end_count; i++)
    if (tokenizer->ends[i] == id) return true;
  return id == tokenizer->eot;
}

int32_t gd_tokenizer_end(const gd_tokenizer *tokenizer, int32_t index) {
  if (!tokenizer->end_count) return index == 0 ? tokenizer->eot : -1;
  return index < tokenizer->end_count ? tokenizer->ends[index] : -1;
}

/* Ids beyond the vocabulary are presets of a class that nobody replaced: nothing ends with them. */
static gd_status add_end(gd_tokenizer *tokenizer, int64_t id, const char *where) {
  if (id < 0 || id >= tokenizer->vocabulary) return GD_OK;
  for (int32_t i = 0; i < tokenizer->end_count; i++)
    if (tokenizer->ends[i] == id) return GD_OK;
  if (tokenizer->end_count == GD_TOKENIZER_ENDS)
    return gd_fail_user(GD_BAD_DATA, "%s: eos_token_id: found more than %d ids, expected at most so many", where,
                        GD_TOKENIZER_ENDS);
  tokenizer->ends[tokenizer->end_count++] = (int32_t)id;
  return GD_OK;
}

/* A number, a list of numbers, or nothing. */
static gd_status read_ends(gd_tokenizer *tokenizer, const gd_json *root, const char *where) {
  const gd_json *node = gd_json_get(root, "eos_token_id");
  bool list = gd_json_is_array(node);
  int64_t id;
  for (const gd_json *at = list ? gd_json_first(node) : node; at; at = list ? gd_json_next(at) : NULL) {
    if (!list && gd_json_is_null(at)) return GD_OK;
    if (!gd_json_integer(at, &id))
      return gd_fail_user(GD_BAD_DATA, "%s: eos_token_id: expected a whole number, or a list of them", where);
    GD_TRY(add_end(tokenizer, id, where));
  }
  return GD_OK;
}

/* The id of a text, or of {"content": text}; -1: none. */
static int32_t named(const gd_tokenizer *tokenizer, const gd_json *node) {
  const char *text = gd_json_string(node);
  if (!text) text = gd_json_string(gd_json_get(node, "content"));
  for (int32_t i = 0; text && i < tokenizer->specials.count; i++)
    if (strcmp(tokenizer->specials.list[i].text, text) == 0) return tokenizer->specials.list[i].id;
  return -1;
}

static gd_status read_tokenizer_config(gd_tokenizer *tokenizer, const gd_json *root, const char *where) {
  int32_t end = named(tokenizer, gd_json_get(root, "eos_token"));
  bool begins;
  if (end >= 0) {
    tokenizer->eot = end;
    GD_TRY(add_end(tokenizer, end, where));
  }
  if (!gd_json_boolean(gd_json_get(root, "add_bos_token"), &begins)) return GD_OK;
  int32_t begin = named(tokenizer, gd_json_get(root, "bos_token"));
  if (!begins || begin >= 0) tokenizer->bos = begins ? begin : -1;
  return GD_OK;
}

gd_status gd_marks_read(gd_tokenizer *tokenizer, const char *path) {
  static const char *const names[] = {"generation_config.json", "config.json", "tokenizer_config.json"};
  char file[GD_PATH_BYTES], folder[GD_PATH_BYTES];
  const char *slash = strrchr(path, '/');
  snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
  if (slash == path) snprintf(folder, sizeof folder, "/");
  for (int i = 0; i < 3; i++) {
    gd_json *root = NULL;
    GD_TRY(gd_path_join(file, sizeof file, folder, names[i]));
    if (!gd_file_exists(file)) continue;
    GD_TRY(gd_json_read(file, FILE_LIMIT, &root));
    gd_status status = i < 2 ? read_ends(tokenizer, root, file) : read_tokenizer_config(tokenizer, root, file);
    gd_json_free(root);
    GD_TRY(status);
    if (i < 2 && tokenizer->end_count) tokenizer->eot = tokenizer->ends[0];
  }
  return GD_OK;
}

/* ---- in gptdist-tokenizer.json ---- */

bool gd_marks_told(const gd_tokenizer *tokenizer) {
  return tokenizer->end_count > 1 || (tokenizer->end_count == 1 && tokenizer->ends[0] != tokenizer->eot) ||
         tokenizer->bos != tokenizer->own_bos || tokenizer->eot != tokenizer->own_eot;
}

static gd_status put_marks(const gd_tokenizer *tokenizer, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "  \"eot\": %d,\n  \"bos\": %d,\n  \"ends\": [", tokenizer->eot, tokenizer->bos));
  for (int32_t i = 0; gd_tokenizer_end(tokenizer, i) >= 0; i++)
    GD_TRY(gd_bytes_printf(out, "%s%d", i ? ", " : "", gd_tokenizer_end(tokenizer, i)));
  return gd_bytes_printf(out, "],\n");
}

gd_status gd_marks_write(const gd_tokenizer *tokenizer, gd_bytes *out) {
  uint8_t digest[GD_SHA256_BYTES];
  char hex[GD_SHA256_HEX_BYTES];
  size_t before = out->count;
  GD_TRY(put_marks(tokenizer, out));
  GD_TRY(gd_sha256_bytes(out->bytes + before, out->count - before, digest));
  gd_sha256_hex(digest, hex);
  return gd_bytes_printf(out, "  \"marks\": \"%s\",\n", hex);
}

gd_status gd_marks_restore(gd_tokenizer *tokenizer, const gd_json *description, const char *where) {
  int64_t eot = -1, bos = -1;
  if (!gd_json_integer(gd_json_get(description, "eot"), &eot) || !gd_json_integer(gd_json_get(description, "bos"), &bos) ||
      eot < -1 || eot >= tokenizer->vocabulary || bos < -1 || bos >= tokenizer->vocabulary)
    return gd_fail_user(GD_BAD_DATA, "%s: is damaged: eot or bos is no id of the tokenizer", where);
  tokenizer->eot = (int32_t)eot;
  tokenizer->bos = (int32_t)bos;
  tokenizer->end_count = 0;
  for (const gd_json *at = gd_json_first(gd_json_get(description, "ends")); at; at = gd_json_next(at)) {
    int64_t id = -1;
    if (!gd_json_integer(at, &id) || id < 0 || id >= tokenizer->vocabulary)
      return gd_fail_user(GD_BAD_DATA, "%s: is damaged: ends holds no id of the tokenizer", where);
    GD_TRY(add_end(tokenizer, id, where));
  }
  return GD_OK;
}
