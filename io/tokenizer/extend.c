/* extend.c - a tokenizer with more special tokens, and whether one is another with more. */
#include <stdlib.h>
#include <string.h>

#include "io/base/utf8.h"
#include "io/tokenizer/added.h"

/* Whether a text is one of the ordinary tokens. */
static gd_status is_token(gd_tokenizer *tokenizer, const char *text, size_t count, bool *is) {
  gd_ids ids = {0};
  gd_bytes back = {0};
  gd_status status = gd_tokenizer_encode(tokenizer, text, count, false, &ids);
  if (status == GD_OK && ids.count == 1) status = gd_tokenizer_decode(tokenizer, -1, ids.ids, 1, &back);
  *is = status == GD_OK && ids.count == 1 && back.count == count && memcmp(back.bytes, text, count) == 0;
  if (status == GD_BAD_DATA) gd_error_clear(); /* a character without an id */
  gd_ids_free(&ids);
  gd_bytes_free(&back);
  return status == GD_BAD_DATA ? GD_OK : status;
}

/* Whether tokenizer.json has an ordinary token under this text, in whose place the special one would be read there. */
static gd_status is_spelling(gd_tokenizer *tokenizer, const char *text, bool *is) {
  gd_bytes raw = {0};
  gd_json *root = NULL;
  *is = false;
  if (!gd_tokenizer_exports(tokenizer)) return GD_OK;
  if (strcmp(tokenizer->spec_kind, "hf") == 0) {
    GD_TRY(gd_json_parse(tokenizer->files[0].bytes.bytes, tokenizer->files[0].bytes.count, "tokenizer.json", 1, &root));
    *is = gd_json_get(gd_json_get(gd_json_get(root, "model"), "vocab"), text) != NULL;
    gd_json_free(root);
    return GD_OK;
  }
  gd_status status = gd_bytes_append(&raw, "", 0);
  bool mapped = true;
  for (const char *at = text; status == GD_OK && mapped && *at;) { /* from GPT-2's alphabet */
    uint32_t code_point = 0;
    size_t count = gd_utf8_length(at, strlen(at), &code_point);
    int32_t value = count ? gd_gpt2_byte(code_point) : -1;
    char byte = (char)value;
    mapped = value >= 0;
    if (mapped) status = gd_bytes_append(&raw, &byte, 1);
    at += count;
  }
  if (status == GD_OK && mapped) status = is_token(tokenizer, raw.bytes, raw.count, is);
  gd_bytes_free(&raw);
  return status;
}

gd_status gd_tokenizer_add(gd_tokenizer *tokenizer, const char *text, bool *known) {
  bool ordinary;
  *known = false;
  for (int32_t i = 0; i < tokenizer->specials.count; i++)
    if (strcmp(tokenizer->specials.list[i].text, text) == 0) *known = true;
  if (*known) return GD_OK;
  GD_TRY(is_token(tokenizer, text, strlen(text), &ordinary));
  if (ordinary) return gd_fail_user(GD_USAGE, "the special token \"%.64s\" is an ordinary one of the tokenizer already", text);
  GD_TRY(is_spelling(tokenizer, text, &ordinary));
  if (ordinary)
    return gd_fail_user(GD_USAGE, "the special token \"%.64s\" is the spelling of an ordinary token in a tokenizer.json", text);
  GD_TRY(gd_added_append(tokenizer, text));
  const char **added = calloc((size_t)tokenizer->added_count, sizeof *added);
  if (!added) return gd_fail(GD_NO_MEMORY, "no memory for %d added tokens", tokenizer->added_count);
  for (int32_t i = 0; i < tokenizer->added_count; i++) added[i] = gd_added_text(tokenizer, tokenizer->own_vocabulary + i);
  gd_status status = gd_added_digest(tokenizer, added, tokenizer->added_count);
  free(added);
  return status;
}

/* ---- one that is another with more ---- */

static bool same_files(const gd_tokenizer *a, const gd_tokenizer *b) {
  bool same = strcmp(a->spec_kind, b->spec_kind) == 0;
  for (int32_t i = 0; same && i < a->file_count; i++)
    same = a->files[i].bytes.count == b->files[i].bytes.count &&
           memcmp(a->files[i].bytes.bytes, b->files[i].bytes.bytes, a->files[i].bytes.count) == 0;
  return same;
}

/* Two nodes, however they are spaced; NULL is equal to NULL alone. */
static gd_status compare_nodes(const gd_json *a, const gd_json *b, bool *equal) {
  gd_bytes first = {0}, second = {0};
  *equal = !a == !b;
  if (!a || !b) return GD_OK;
  gd_status status = gd_json_print(a, &first);
  if (status == GD_OK) status = gd_json_print(b, &second);
  *equal = status == GD_OK && first.count == second.count && memcmp(first.bytes, second.bytes, first.count) == 0;
  gd_bytes_free(&first);
  gd_bytes_free(&second);
  return status;
}

/* Lists of added tokens: the longer one goes on, with ids behind those of the base. */
static gd_status compare_lists(const gd_json *longer, const gd_json *base, int32_t ids, bool *extends) {
  const gd_json *more = gd_json_first(longer);
  for (const gd_json *at = gd_json_first(base); at && *extends; at = gd_json_next(at), more = gd_json_next(more))
    GD_TRY(compare_nodes(more, at, extends));
  for (int64_t id; more && *extends; more = gd_json_next(more))
    *extends = gd_json_integer(gd_json_get(more, "id"), &id) && id >= ids;
  return GD_OK;
}

/* Two tokenizer.json that are equal but for more added tokens, as transformers writes one when it gets some. */
static gd_status compare_json(const gd_json *longer, const gd_json *base, int32_t ids, bool *extends) {
  int32_t members = 0;
  *extends = true;
  for (const gd_json *at = gd_json_first(base); at && *extends; at = gd_json_next(at), members++)
    if (strcmp(gd_json_key(at), "added_tokens") != 0) GD_TRY(compare_nodes(gd_json_get(longer, gd_json_key(at)), at, extends));
  for (const gd_json *at = gd_json_first(longer); at; at = gd_json_next(at)) members--;
  *extends = *extends && members == 0;
  return compare_lists(gd_json_get(longer, "added_tokens"), gd_json_get(base, "added_tokens"), ids, extends);
}

static gd_status extends_json(const gd_tokenizer *longer, const gd_tokenizer *base, bool *extends) {
  gd_json *a = NULL, *b = NULL;
  const gd_bytes *first = &longer->files[0].bytes, *second = &base->files[0].bytes;
  gd_status status = gd_json_parse(first->bytes, first->count, "tokenizer.json", 1, &a);
  if (status == GD_OK) status = gd_json_parse(second->bytes, second->count, "tokenizer.json", 1, &b);
  if (status == GD_OK) status = compare_json(a, b, base->vocabulary, extends);
  gd_json_free(a);
  gd_json_free(b);
  return status;
}

gd_status gd_tokenizer_extends(const gd_tokenizer *longer, const gd_tokenizer *base, bool *out) {
  bool hf = strcmp(longer->spec_kind, "hf") == 0 && strcmp(base->spec_kind, "hf") == 0;
  if (hf && !base->added_count && !same_files(longer, base)) return extends_json(longer, base, out);
  bool extends = same_files(longer, base) && longer->added_count >= base->added_count;
  for (int32_t i = 0; extends && i < base->added_count; i++)
    extends = strcmp(gd_added_text(longer, longer->own_vocabulary + i), gd_added_text(base, base->own_vocabulary + i)) == 0;
  *out = extends;
  return GD_OK;
}

/* ---- one that is another in other files ---- */

static bool same_text(const char *a, const char *b) {
  return a && b ? strcmp(a, b) == 0 : a == b;
}

gd_status gd_tokenizer_within(const gd_tokenizer *inner, const gd_tokenizer *outer, bool *out) {
  gd_bytes first = {0}, second = {0};
  gd_status status = GD_OK;
  *out = inner->vocabulary <= outer->vocabulary;
  for (int32_t id = 0; status == GD_OK && *out && id < inner->vocabulary; id++) {
    first.count = second.count = 0;
    bool there = gd_tokenizer_has(inner, id);
    *out = there == gd_tokenizer_has(outer, id) &&
           same_text(gd_tokenizer_special_text(inner, id), gd_tokenizer_special_text(outer, id));
    if (!there || !*out) continue;
    status = gd_tokenizer_decode(inner, -1, &id, 1, &first);
    if (status == GD_OK) status = gd_tokenizer_decode(outer, -1, &id, 1, &second);
    *out =
        status == GD_OK && first.count == second.count && (!first.count || memcmp(first.bytes, second.bytes, first.count) == 0);
  }
  gd_bytes_free(&first);
  gd_bytes_free(&second);
  return status;
}
