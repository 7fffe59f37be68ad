/* added.c - special tokens behind the ids of a tokenizer: in its digest, its description and what is written for others. */
#include "io/tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"

enum { TEXT_LIMIT = 1024, VOCABULARY_LIMIT = 1 << 24 };

const char *gd_added_text(const gd_tokenizer *tokenizer, int32_t id) {
  int32_t at = id - tokenizer->own_vocabulary;
  if (at < 0 || at >= tokenizer->added_count) return NULL;
  return tokenizer->specials.list[tokenizer->specials.count - tokenizer->added_count + at].text;
}

gd_status gd_added_digest(gd_tokenizer *tokenizer, const char *const *added, int32_t count) {
  gd_sha256 *sha256;
  uint8_t digest[GD_SHA256_BYTES];
  GD_TRY(gd_sha256_open(&sha256));
  gd_status status = gd_sha256_update(sha256, tokenizer->spec_kind, strlen(tokenizer->spec_kind) + 1);
  for (int32_t i = 0; status == GD_OK && i < tokenizer->file_count + count; i++) {
    bool file = i < tokenizer->file_count;
    const char *text = file ? tokenizer->files[i].bytes.bytes : added[i - tokenizer->file_count];
    uint64_t bytes = file ? tokenizer->files[i].bytes.count : strlen(text); /* so that bytes cannot move to the next */
    status = gd_sha256_update(sha256, &bytes, sizeof bytes);
    if (status == GD_OK) status = gd_sha256_update(sha256, text, bytes);
  }
  if (status == GD_OK) status = gd_sha256_finish(sha256, digest);
  if (status == GD_OK) gd_sha256_hex(digest, tokenizer->digest);
  gd_sha256_close(sha256);
  return status;
}

/* ---- in gptdist-tokenizer.json ---- */

gd_status gd_added_write(const gd_tokenizer *tokenizer, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "  \"added\": ["));
  for (int32_t i = 0; i < tokenizer->added_count; i++) {
    const char *text = gd_added_text(tokenizer, tokenizer->own_vocabulary + i);
    if (i) GD_TRY(gd_bytes_append(out, ", ", 2));
    GD_TRY(gd_json_quote(out, text, strlen(text)));
  }
  return gd_bytes_printf(out, "],\n");
}

gd_status gd_added_read(const gd_json *description, const char *where, const char ***out, int32_t *count) {
  const gd_json *list = gd_json_get(description, "added"), *first = gd_json_is_array(list) ? gd_json_first(list) : NULL;
  size_t found = 0;
  for (const gd_json *at = first; at; at = gd_json_next(at)) found++;
  *out = calloc(found + 1, sizeof **out);
  *count = 0;
  if (!*out) return gd_fail(GD_NO_MEMORY, "no memory for %zu added tokens", found);
  for (const gd_json *at = first; at; at = gd_json_next(at)) {
    (*out)[*count] = gd_json_string(at);
    if (!(*out)[(*count)++])
      return gd_fail_user(GD_BAD_DATA, "%s: is damaged: \"added\" holds something that is no text", where);
  }
  return GD_OK;
}

/* ---- one more ---- */

gd_status gd_added_append(gd_tokenizer *tokenizer, const char *text) {
  size_t count = strlen(text);
  bool valid = true;
  if (!count || count > TEXT_LIMIT || gd_utf8_run(text, count, &valid) != count || !valid)
    return gd_fail_user(GD_USAGE, "the special token \"%.64s\" has %zu bytes, expected UTF-8 of 1 to %d", text, count,
                        TEXT_LIMIT);
  if (tokenizer->vocabulary >= VOCABULARY_LIMIT)
    return gd_fail_user(GD_USAGE, "the special token \"%.64s\": the tokenizer has %d ids already", text, tokenizer->vocabulary);
  GD_TRY(gd_tokenizer_add_special(tokenizer, text, tokenizer->vocabulary));
  tokenizer->vocabulary++;
  tokenizer->added_count++;
  return GD_OK;
}

/* ---- out ---- */

static gd_status put_token(const gd_tokenizer *tokenizer, int32_t id, bool first, gd_bytes *out) {
  const char *text = gd_added_text(tokenizer, id);
  GD_TRY(gd_bytes_printf(out, "%s{\"id\":%d,\"content\":", first ? "" : ",", id));
  GD_TRY(gd_json_quote(out, text, strlen(text)));
  return gd_bytes_printf(out,
                         ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}");
}

static gd_status put_list(const gd_tokenizer *tokenizer, const gd_json *list, gd_bytes *out) {
  bool first = true;
  GD_TRY(gd_bytes_printf(out, "\"added_tokens\":["));
  for (const gd_json *at = gd_json_is_array(list) ? gd_json_first(list) : NULL; at; at = gd_json_next(at), first = false) {
    if (!first) GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(gd_json_print(at, out));
  }
  for (int32_t i = 0; i < tokenizer->added_count; i++, first = false)
    GD_TRY(put_token(tokenizer, tokenizer->own_vocabulary + i, first, out));
  return gd_bytes_printf(out, "]");
}

static gd_status put_all(const gd_tokenizer *tokenizer, const gd_json *root, gd_bytes *out) {
  GD_TRY(gd_bytes_append(out, "{", 1));
  GD_TRY(put_list(tokenizer, gd_json_get(root, "added_tokens"), out));
  for (const gd_json *at = gd_json_first(root); at; at = gd_json_next(at)) {
    const char *key = gd_json_key(at);
    if (strcmp(key, "added_tokens") == 0) continue;
    GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(gd_json_quote(out, key, strlen(key)));
    GD_TRY(gd_bytes_append(out, ":", 1));
    GD_TRY(gd_json_print(at, out));
  }
  return gd_bytes_append(out, "}\n", 2);
}

gd_status gd_added_export(const gd_tokenizer *tokenizer, gd_bytes *out) {
  const gd_bytes *file = &tokenizer->files[0].bytes;
  gd_json *root = NULL;
  gd_status status = gd_json_parse(file->bytes, file->count, "tokenizer.json", 1, &root);
  if (status == GD_OK) status = put_all(tokenizer, root, out);
  gd_json_free(root);
  return status;
}
