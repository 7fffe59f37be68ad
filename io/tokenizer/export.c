/* export.c - tokenizer.json and tokenizer_config.json of Hugging Face's for what is byte-level. */
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/base/utf8.h"
#include "io/tokenizer/added.h"
#include "io/tokenizer/bpe.h"
#include "io/tokenizer/split.h"
#include "shard/spec.h"

/* How a kind cuts text, and whether a piece that is a token is taken whole. Theirs has another \\s in its own split of
 * ByteLevel than ours, so the pattern is written out. Not listed: tokenizer.json is there already (hf), or cannot say it. */
static const struct shape {
  const char *kind, *pattern; /* pattern NULL: bytes are never merged, so nothing is cut */
  bool whole_first;
} shapes[] = {{"gpt2", gd_splitter_gpt2, false}, {"tiktoken", gd_splitter_cl100k, true}, {"bytes", NULL, false}};

static const struct shape *shape_of(const gd_tokenizer *tokenizer) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    if (strcmp(shapes[i].kind, tokenizer->spec_kind) == 0) return &shapes[i];
  return NULL;
}

bool gd_tokenizer_exports(const gd_tokenizer *tokenizer) {
  return strcmp(tokenizer->spec_kind, "hf") == 0 || shape_of(tokenizer);
}

const char *gd_tokenizer_special_text(const gd_tokenizer *tokenizer, int32_t id) {
  for (int32_t i = 0; i < tokenizer->specials.count; i++)
    if (tokenizer->specials.list[i].id == id) return tokenizer->specials.list[i].text;
  return NULL;
}

/* An id's text in GPT-2's alphabet, or, of a token that no merge makes, as it is. *text = NULL: the id has none. */
static gd_status text_of(const gd_tokenizer *tokenizer, int32_t id, gd_bytes *room, const char **text) {
  size_t count = 0;
  char byte = (char)id;
  bool bytes = strcmp(tokenizer->spec_kind, "bytes") == 0;
  const char *raw = bytes ? (id < 256 ? &byte : NULL) : gd_bpe_bytes(tokenizer->state, id, &count);
  if (bytes) count = 1;
  *text = gd_tokenizer_special_text(tokenizer, id);
  if (*text || !raw) return GD_OK;
  room->count = 0;
  bool mapped = bytes || gd_bpe_find(tokenizer->state, raw, count) == id;
  for (size_t i = 0; mapped && i < count; i++) GD_TRY(gd_utf8_append(room, gd_gpt2_code_point((uint8_t)raw[i])));
  if (!mapped) GD_TRY(gd_bytes_append(room, raw, count));
  *text = room->bytes;
  return GD_OK;
}

/* "left right", as releases of their library before 0.20 have it, too: no text that is merged has a space in it. */
static gd_status put_pair(const gd_tokenizer *tokenizer, const gd_bpe_pair *pair, gd_bytes *room, gd_bytes *both,
                          gd_bytes *out) {
  const char *text;
  both->count = 0;
  GD_TRY(text_of(tokenizer, pair->left, room, &text));
  GD_TRY(gd_bytes_printf(both, "%s ", text));
  GD_TRY(text_of(tokenizer, pair->right, room, &text));
  GD_TRY(gd_bytes_append(both, text, strlen(text)));
  return gd_json_quote(out, both->bytes, both->count);
}

static gd_status put_added(const gd_tokenizer *tokenizer, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, " \"added_tokens\": ["));
  for (int32_t i = 0; i < tokenizer->specials.count; i++) {
    const gd_special *special = &tokenizer->specials.list[i];
    GD_TRY(gd_bytes_printf(out, "%s{\"id\": %d, \"content\": ", i ? ",\n  " : "", special->id));
    GD_TRY(gd_json_quote(out, special->text, strlen(special->text)));
    GD_TRY(gd_bytes_printf(out,
                           ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                           "\"special\": true}"));
  }
  return gd_bytes_printf(out, "],\n");
}

static gd_status put_split(const struct shape *shape, gd_bytes *out) {
  static const char level[] =
      "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}";
  GD_TRY(gd_bytes_printf(out, " \"normalizer\": null,\n \"pre_tokenizer\": "));
  if (shape->pattern) {
    GD_TRY(gd_bytes_printf(out,
                           "{\"type\": \"Sequence\", \"pretokenizers\": [\n  {\"type\": \"Split\", \"behavior\": \"Isolated\", "
                           "\"invert\": false, \"pattern\": {\"Regex\": "));
    GD_TRY(gd_json_quote(out, shape->pattern, strlen(shape->pattern)));
    GD_TRY(gd_bytes_printf(out, "}},\n  "));
  }
  GD_TRY(
      gd_bytes_printf(out, "%s%s,\n \"post_processor\": null,\n \"decoder\": %s,\n", level, shape->pattern ? "]}" : "", level));
  return GD_OK;
}

static gd_status put_vocabulary(const gd_tokenizer *tokenizer, gd_bytes *room, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "  \"vocab\": {"));
  for (int32_t id = 0, first = 1; id < tokenizer->vocabulary; id++) {
    const char *text;
    GD_TRY(text_of(tokenizer, id, room, &text));
    if (!text) continue;
    GD_TRY(gd_bytes_printf(out, first ? "" : ", "));
    GD_TRY(gd_json_quote(out, text, strlen(text)));
    GD_TRY(gd_bytes_printf(out, ": %d", id));
    first = 0;
  }
  return gd_bytes_printf(out, "},\n");
}

static gd_status put_merges(const gd_tokenizer *tokenizer, gd_bytes *room, gd_bytes *out) {
  gd_bpe_pair *pairs = NULL;
  size_t count = 0;
  if (strcmp(tokenizer->spec_kind, "bytes") != 0) GD_TRY(gd_bpe_pairs(tokenizer->state, &pairs, &count));
  gd_bytes both = {0};
  gd_status status = gd_bytes_printf(out, "  \"merges\": [");
  for (size_t i = 0; status == GD_OK && i < count; i++) {
    status = gd_bytes_printf(out, i ? ", " : "");
    if (status == GD_OK) status = put_pair(tokenizer, &pairs[i], room, &both, out);
  }
  gd_bytes_free(&both);
  free(pairs);
  return status == GD_OK ? gd_bytes_printf(out, "]}}\n") : status;
}

static gd_status put_all(const gd_tokenizer *tokenizer, gd_bytes *room, gd_bytes *out) {
  const struct shape *shape = shape_of(tokenizer);
  const char *unknown = NULL;
  for (int32_t i = 0; i < tokenizer->specials.count; i++)
    if (strcmp(tokenizer->specials.list[i].text, "<unk>") == 0) unknown = "<unk>";
  GD_TRY(gd_bytes_printf(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"));
  GD_TRY(put_added(tokenizer, out));
  GD_TRY(put_split(shape, out));
  GD_TRY(gd_bytes_printf(
      out,
      " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": %s, \"continuing_subword_prefix\": null, "
      "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": %s,\n",
      unknown ? "\"<unk>\"" : "null", shape->whole_first ? "true" : "false"));
  GD_TRY(put_vocabulary(tokenizer, room, out));
  return put_merges(tokenizer, room, out);
}

gd_status gd_tokenizer_export_json(const gd_tokenizer *tokenizer, const char *path) {
  gd_bytes room = {0}, out = {0};
  gd_status status = GD_OK;
  if (strcmp(tokenizer->spec_kind, "hf") == 0 && tokenizer->added_count)
    status = gd_added_export(tokenizer, &out);
  else if (strcmp(tokenizer->spec_kind, "hf") == 0)
    status = gd_bytes_append(&out, tokenizer->files[0].bytes.bytes, tokenizer->files[0].bytes.count);
  else if (!shape_of(tokenizer))
    status = gd_fail(GD_BUG, "a tokenizer.json of the kind %s", tokenizer->spec_kind);
  else
    status = put_all(tokenizer, &room, &out);
  if (status == GD_OK) status = gd_file_write(path, out.bytes, out.count);
  gd_bytes_free(&room);
  gd_bytes_free(&out);
  return status;
}

static gd_status put_special(const gd_tokenizer *tokenizer, const char *key, int32_t id, gd_bytes *out) {
  const char *text = gd_tokenizer_special_text(tokenizer, id);
  if (!text) return GD_OK;
  GD_TRY(gd_bytes_printf(out, "  \"%s\": ", key));
  GD_TRY(gd_json_quote(out, text, strlen(text)));
  return gd_bytes_printf(out, ",\n");
}

gd_status gd_tokenizer_export(const gd_tokenizer *tokenizer, const char *folder, int32_t longest, const char *chat_template) {
  char path[GD_PATH_BYTES];
  gd_bytes out = {0};
  GD_TRY(gd_path_join(path, sizeof path, folder, "tokenizer.json"));
  GD_TRY(gd_tokenizer_export_json(tokenizer, path));
  GD_TRY(gd_path_join(path, sizeof path, folder, "tokenizer_config.json"));
  gd_status status = gd_bytes_printf(&out, "{\n");
  if (status == GD_OK) status = put_special(tokenizer, "bos_token", tokenizer->bos, &out);
  if (status == GD_OK && tokenizer->bos >= 0) status = gd_bytes_printf(&out, "  \"add_bos_token\": true,\n");
  if (status == GD_OK) status = put_special(tokenizer, "eos_token", tokenizer->eot, &out);
  if (chat_template && status == GD_OK) status = gd_bytes_printf(&out, "  \"chat_template\": ");
  if (chat_template && status == GD_OK) status = gd_json_quote(&out, chat_template, strlen(chat_template));
  if (chat_template && status == GD_OK) status = gd_bytes_printf(&out, ",\n");
  if (status == GD_OK)
    status = gd_bytes_printf(&out,
                             "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %d,\n"
                             "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
                             longest);
  if (status == GD_OK) status = gd_file_write(path, out.bytes, out.count);
  gd_bytes_free(&out);
  return status;
}
