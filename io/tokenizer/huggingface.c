/* huggingface.c - tokenizer.json of Hugging Face: BPE over bytes (GPT-2, Llama 3, SmolLM2, Qwen2) or over characters with bytes
 * for what is no token (Llama 2, Mistral). What is not known is named, with what is. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/fallback.h"
#include "io/tokenizer/gpt2.h"
#include "io/tokenizer/split.h"

static const char mark[] = "\xe2\x96\x81"; /* U+2581, for a space */

/* What its parts come to. */
typedef struct plan {
  gd_split_step steps[GD_BPE_STEPS];
  int32_t count;
  bool nfc, level, metaspace, replaced; /* ByteLevel; Metaspace; spaces replaced by the normalizer */
  bool cuts;                            /* all splits are known not to look across what gd_tokenizer_cuts promises */
  gd_fallback_options fallback;
} plan;

static bool has_type(const gd_json *node, const char *type) {
  const char *found = gd_json_string(gd_json_get(node, "type"));
  return found && strcmp(found, type) == 0;
}

static bool truth(const gd_json *node, const char *key, bool preset) {
  bool value = preset;
  return gd_json_boolean(gd_json_get(node, key), &value) ? value : preset;
}

static bool is_text(const gd_json *node, const char *wanted) {
  const char *found = gd_json_string(node);
  return found && strcmp(found, wanted) == 0;
}

static gd_status unknown(const char *where, const char *part, const gd_json *found, const char *known) {
  const char *text = gd_json_string(found);
  return gd_fail_user(GD_BAD_DATA, "%s: %s: found \"%.64s\", expected %s", where, part, text ? text : "(none)", known);
}

static bool is_nothing(const gd_json *node) {
  return !node || gd_json_is_null(node) || (gd_json_is_object(node) && !gd_json_first(node));
}

/* ---- normalizer ---- */

static gd_status read_normalizer(const gd_json *node, const char *where, plan *out) {
  static const char known[] = "NFC, Prepend or Replace of a space by U+2581, or a Sequence of these";
  if (is_nothing(node)) return GD_OK;
  if (has_type(node, "Sequence")) {
    for (const gd_json *at = gd_json_first(gd_json_get(node, "normalizers")); at; at = gd_json_next(at)) {
      if (has_type(at, "Sequence")) return unknown(where, "normalizer", gd_json_get(at, "type"), known);
      GD_TRY(read_normalizer(at, where, out));
    }
    return GD_OK;
  }
  if (has_type(node, "NFC")) {
    out->nfc = true;
  } else if (has_type(node, "Prepend") && is_text(gd_json_get(node, "prepend"), mark)) {
    out->fallback.prefix = GD_PREFIX_FORCED;
  } else if (has_type(node, "Replace") && is_text(gd_json_get(gd_json_get(node, "pattern"), "String"), " ") &&
             is_text(gd_json_get(node, "content"), mark)) {
    out->replaced = true;
  } else {
    return unknown(where, "normalizer", gd_json_get(node, "type"), known);
  }
  return GD_OK;
}

/* ---- pre_tokenizer ---- */

/* The pattern is PCRE2's. */
static gd_status add_step(plan *out, const char *pattern, gd_split_behavior behavior, bool invert, const char *where) {
  static const char *const known[] = {gd_splitter_gpt2, gd_splitter_cl100k, gd_splitter_qwen2, "\\p{N}", "\\p{N}+"};
  bool cuts = behavior == GD_SPLIT_ISOLATED || (behavior == GD_SPLIT_REMOVED && invert), found = false;
  if (out->count == GD_BPE_STEPS)
    return gd_fail_user(GD_BAD_DATA, "%s: pre_tokenizer: found more than %d steps", where, GD_BPE_STEPS);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) found = found || strcmp(known[i], pattern) == 0;
  out->cuts = out->cuts && cuts && found;
  gd_split_step step = {.behavior = behavior, .invert = invert};
  gd_status status = gd_splitter_open(pattern, &step.splitter);
  if (status == GD_OK) out->steps[out->count++] = step;
  return status == GD_OK ? GD_OK : gd_error_context(status, "in %s, pre_tokenizer", where);
}

/* A text that stands for itself in a pattern. */
static gd_status quote(const char *text, gd_bytes *out) {
  for (; *text; text++) {
    bool plain = (uint8_t)*text >= 0x80 || (*text >= '0' && *text <= '9') || (*text >= 'A' && *text <= 'Z') ||
                 (*text >= 'a' && *text <= 'z');
    GD_TRY(gd_bytes_printf(out, plain ? "%c" : "\\%c", *text));
  }
  return GD_OK;
}

static gd_status read_split(const gd_json *node, const char *where, plan *out) {
  static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  const gd_json *found = gd_json_get(node, "behavior"), *pattern = gd_json_get(node, "pattern");
  const char *regex = gd_json_string(gd_json_get(pattern, "Regex")), *text = gd_json_string(gd_json_get(pattern, "String"));
  int behavior = 0;
  while (behavior < 5 && !is_text(found, behaviors[behavior])) behavior++;
  if (behavior == 5)
    return unknown(where, "behavior of a Split", found, "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
  if (!regex && (!text || !text[0]))
    return gd_fail_user(GD_BAD_DATA, "%s: pattern of a Split: expected a Regex or a String", where);
  gd_bytes translated = {0};
  gd_status status = regex ? gd_splitter_translate(regex, &translated) : quote(text, &translated);
  if (status == GD_BAD_DATA) status = gd_error_context(status, "in %s, pre_tokenizer", where);
  if (status == GD_OK)
    status = add_step(out, translated.bytes, (gd_split_behavior)behavior, truth(node, "invert", false), where);
  gd_bytes_free(&translated);
  return status;
}

static gd_status read_metaspace(const gd_json *node, const char *where, plan *out) {
  const gd_json *scheme = gd_json_get(node, "prepend_scheme"), *replacement = gd_json_get(node, "replacement");
  if (!is_text(replacement, mark)) return unknown(where, "replacement of Metaspace", replacement, "U+2581");
  out->metaspace = true;
  out->fallback.split = truth(node, "split", true);
  if (is_nothing(scheme)) /* older files */
    out->fallback.prefix = truth(node, "add_prefix_space", true) ? GD_PREFIX_ALWAYS : GD_PREFIX_NEVER;
  else if (is_text(scheme, "always"))
    out->fallback.prefix = GD_PREFIX_ALWAYS;
  else if (is_text(scheme, "first"))
    out->fallback.prefix = GD_PREFIX_FIRST;
  else if (is_text(scheme, "never"))
    out->fallback.prefix = GD_PREFIX_NEVER;
  else
    return unknown(where, "prepend_scheme of Metaspace", scheme, "always, first or never");
  return GD_OK;
}

static gd_status read_pre_tokenizer(const gd_json *node, const char *where, plan *out) {
  static const char known[] = "ByteLevel, Split, Digits, Metaspace, or a Sequence of these that ByteLevel ends";
  if (is_nothing(node)) return GD_OK;
  if (has_type(node, "Sequence")) {
    for (const gd_json *at = gd_json_first(gd_json_get(node, "pretokenizers")); at; at = gd_json_next(at)) {
      if (has_type(at, "Sequence") || out->level || out->metaspace)
        return unknown(where, "pre_tokenizer", gd_json_get(at, "type"), known);
      GD_TRY(read_pre_tokenizer(at, where, out));
    }
    return GD_OK;
  }
  if (has_type(node, "Split")) return read_split(node, where, out);
  if (has_type(node, "Digits"))
    return add_step(out, truth(node, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", GD_SPLIT_ISOLATED, false, where);
  if (has_type(node, "Metaspace") && !out->count) return read_metaspace(node, where, out);
  if (!has_type(node, "ByteLevel")) return unknown(where, "pre_tokenizer", gd_json_get(node, "type"), known);
  if (truth(node, "add_prefix_space", false))
    return gd_fail_user(GD_BAD_DATA, "%s: pre_tokenizer: found add_prefix_space true, expected false", where);
  out->level = true;
  return truth(node, "use_regex", true) ? add_step(out, gd_splitter_gpt2, GD_SPLIT_ISOLATED, false, where) : GD_OK;
}

/* ---- model, added tokens ---- */

static gd_status check_model(const gd_json *model, const char *where) {
  static const char *const parts[] = {"continuing_subword_prefix", "end_of_word_suffix"};
  const gd_json *type = gd_json_get(model, "type");
  double dropout = 0;
  if (!gd_json_is_object(model))
    return gd_fail_user(GD_BAD_DATA, "%s: no \"model\" in it, expected a Hugging Face tokenizer.json", where);
  if (type && !is_text(type, "BPE")) return unknown(where, "model", type, "BPE");
  for (int i = 0; i < 2; i++) {
    const char *text = gd_json_string(gd_json_get(model, parts[i]));
    if (text && text[0]) return gd_fail_user(GD_BAD_DATA, "%s: model: found the %s, expected none", where, parts[i]);
  }
  if (gd_json_number(gd_json_get(model, "dropout"), &dropout) && dropout != 0)
    return gd_fail_user(GD_BAD_DATA, "%s: model: found a dropout of %g, expected none", where, dropout);
  return GD_OK;
}

static gd_status read_merge_list(gd_bpe *bpe, const gd_json *merges, bool plain, const char *where) {
  uint32_t rank = 0;
  for (const gd_json *node = gd_json_first(merges); node; node = gd_json_next(node), rank++) {
    const char *text = gd_json_string(node);
    if (text) {
      GD_TRY(gd_gpt2_read_merge_text(bpe, text, strlen(text), plain, rank, where, (int64_t)rank));
      continue;
    }
    const char *left = gd_json_string(gd_json_first(node)), *right = gd_json_string(gd_json_next(gd_json_first(node)));
    if (!left || !right) return gd_fail_user(GD_BAD_DATA, "%s: merge %u is no pair of texts", where, rank);
    GD_TRY(gd_gpt2_read_merge(bpe, left, strlen(left), right, strlen(right), plain, rank, where, (int64_t)rank));
  }
  return GD_OK;
}

/* The end of text that a name tells where no file does (marks.c). */
static gd_status read_added(gd_tokenizer *tokenizer, gd_bpe *bpe, const gd_json *added, const plan *p, const char *where) {
  static const char *const ends[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>"};
  size_t best = sizeof ends / sizeof *ends;
  for (const gd_json *node = gd_json_first(added); node; node = gd_json_next(node)) {
    const char *text = gd_json_string(gd_json_get(node, "content"));
    int64_t id;
    size_t length;
    if (!text || !text[0] || !gd_json_integer(gd_json_get(node, "id"), &id) || id < 0 || id >= tokenizer->vocabulary)
      return gd_fail_user(GD_BAD_DATA, "%s: an added token has no content or no id", where);
    if (truth(node, "single_word", false))
      return gd_fail_user(GD_BAD_DATA, "%s: added token \"%.64s\": found single_word true, expected false", where, text);
    if (truth(node, "normalized", false) && (p->replaced || p->fallback.prefix == GD_PREFIX_FORCED) && strchr(text, ' '))
      return gd_fail_user(GD_BAD_DATA, "%s: added token \"%.64s\": found normalized true and a space, expected one of them",
                          where, text);
    if (!gd_bpe_bytes(bpe, (int32_t)id, &length)) GD_TRY(gd_bpe_set(bpe, (int32_t)id, text, strlen(text), false));
    gd_special special = {.text = (char *)text,
                          .id = (int32_t)id,
                          .special = truth(node, "special", true),
                          .lstrip = truth(node, "lstrip", false),
                          .rstrip = truth(node, "rstrip", false)};
    GD_TRY(gd_specials_add(&tokenizer->specials, &special));
    for (size_t i = 0; i < best; i++) {
      if (strcmp(text, ends[i]) != 0) continue;
      best = i;
      tokenizer->eot = (int32_t)id;
    }
  }
  return GD_OK;
}

/* ---- post_processor: what stands before a text ---- */

static const gd_json *find_template(const gd_json *node) {
  if (has_type(node, "TemplateProcessing")) return node;
  const gd_json *at = has_type(node, "Sequence") ? gd_json_first(gd_json_get(node, "processors")) : NULL;
  while (at && !has_type(at, "TemplateProcessing")) at = gd_json_next(at);
  return at;
}

static void read_begin(gd_tokenizer *tokenizer, const gd_json *node) {
  const gd_json *first = gd_json_first(gd_json_get(find_template(node), "single"));
  const char *text = gd_json_string(gd_json_get(gd_json_get(first, "SpecialToken"), "id"));
  if (!text && is_nothing(node)) text = "<|begin_of_text|>";
  for (int32_t i = 0; text && i < tokenizer->specials.count; i++)
    if (strcmp(tokenizer->specials.list[i].text, text) == 0) tokenizer->bos = tokenizer->specials.list[i].id;
}

/* ---- all of it ---- */

static gd_status finish(gd_tokenizer *tokenizer, gd_bpe *bpe, const gd_json *model, plan *p) {
  const char *text = gd_json_string(gd_json_get(model, "unk_token"));
  int64_t id;
  p->fallback.unknown = text && gd_json_integer(gd_json_get(gd_json_get(model, "vocab"), text), &id) ? (int32_t)id : -1;
  p->fallback.fuse = truth(model, "fuse_unk", false);
  p->fallback.whole_first = truth(model, "ignore_merges", false);
  if (p->level) {
    static const gd_tokenizer_kind whole = {"gpt2", false, gd_bpe_encode, gd_bpe_decode, gd_bpe_close};
    int32_t count = p->count;
    tokenizer->kind = p->cuts ? &gd_gpt2_kind : &whole;
    p->count = 0; /* the vocabulary's now */
    return gd_bpe_finish_steps(bpe, p->steps, count, p->nfc, p->fallback.whole_first, p->fallback.unknown);
  }
  tokenizer->kind = &gd_fallback_kind;
  tokenizer->state = NULL;
  return gd_fallback_open(bpe, &p->fallback, tokenizer, &tokenizer->state);
}

static gd_status build(gd_tokenizer *tokenizer, const gd_json *root, plan *p, const char *where) {
  const gd_json *model = gd_json_get(root, "model"), *vocab = gd_json_get(model, "vocab"),
                *added = gd_json_get(root, "added_tokens"), *post = gd_json_get(root, "post_processor");
  GD_TRY(check_model(model, where));
  GD_TRY(read_normalizer(gd_json_get(root, "normalizer"), where, p));
  GD_TRY(read_pre_tokenizer(gd_json_get(root, "pre_tokenizer"), where, p));
  bool characters = !p->level && (p->metaspace || p->replaced) && truth(model, "byte_fallback", false);
  if (!p->level && !characters)
    return gd_fail_user(
        GD_BAD_DATA,
        "%s: pre_tokenizer: found no ByteLevel, expected one, or byte_fallback with Metaspace or a Replace of spaces", where);
  if (characters ? p->count || p->nfc || (p->metaspace && p->replaced) : p->replaced || p->fallback.prefix != GD_PREFIX_NEVER)
    return gd_fail_user(GD_BAD_DATA,
                        "%s: found ByteLevel, Split, Digits or NFC beside spaces as U+2581, expected one or the other", where);
  int64_t largest = -1, id;
  for (const gd_json *node = gd_json_first(added); node; node = gd_json_next(node))
    if (gd_json_integer(gd_json_get(node, "id"), &id) && id > largest) largest = id;
  GD_TRY(gd_gpt2_largest_id(vocab, largest, where, &tokenizer->vocabulary));
  gd_bpe *bpe;
  GD_TRY(gd_bpe_open(tokenizer->vocabulary, &bpe));
  tokenizer->kind = &gd_gpt2_kind; /* closes the vocabulary, whatever follows */
  tokenizer->state = bpe;
  GD_TRY(gd_gpt2_read_vocab(tokenizer, bpe, vocab, characters, where));
  GD_TRY(read_added(tokenizer, bpe, added, p, where));
  GD_TRY(read_merge_list(bpe, gd_json_get(model, "merges"), characters, where));
  read_begin(tokenizer, post);
  return finish(tokenizer, bpe, model, p);
}

gd_status gd_tokenizer_build_huggingface(gd_tokenizer *tokenizer, const char *where) {
  gd_json *root = NULL;
  plan p = {.cuts = true};
  const gd_bytes *file = &tokenizer->files[0].bytes;
  gd_status status = gd_json_parse(file->bytes, file->count, where, 1, &root);
  if (status == GD_OK) status = build(tokenizer, root, &p, where);
  for (int32_t i = 0; i < p.count; i++) gd_splitter_close(p.steps[i].splitter);
  gd_json_free(root);
  return status;
}
