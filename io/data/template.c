/* template.c - templates by name, from files, to JSON. */
#include "io/data/template.h"

#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name, *begin, *system[2], *user[2], *assistant[2], *input[2], *end, *generation;
} known[] = {
    {"plain", "", {"", "\n"}, {"", ""}, {"\n", "\n"}, {"\n", ""}, "", "\n"},
    {"alpaca",
     "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
     {"", "\n\n"},
     {"### Instruction:\n", "\n\n"},
     {"### Response:\n", "\n\n"},
     {"\n\n### Input:\n", ""},
     "",
     "### Response:\n"},
    {"chatml",
     "",
     {"<|im_start|>system\n", "<|im_end|>\n"},
     {"<|im_start|>user\n", "<|im_end|>\n"},
     {"<|im_start|>assistant\n", "\n"},
     {"\n\n", ""},
     "<|im_end|>",
     "<|im_start|>assistant\n"},
    {"llama3",
     "<|begin_of_text|>",
     {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
     {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
     {"<|start_header_id|>assistant<|end_header_id|>\n\n", ""},
     {"\n\n", ""},
     "<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n"},
};
enum { KNOWN = sizeof known / sizeof *known, FILE_LIMIT = 1 << 20, TEXTS = 12 };

static const char *const roles[GD_TURN_ROLES] = {"system", "user", "assistant"};

/* Every text of the table but the name, each in its place. */
static void list_texts(gd_template *layout, char **out[TEXTS]) {
  int count = 0;
  out[count++] = &layout->begin;
  for (int r = 0; r < GD_TURN_ROLES; r++) {
    out[count++] = &layout->before[r];
    out[count++] = &layout->after[r];
  }
  out[count++] = &layout->input[0];
  out[count++] = &layout->input[1];
  out[count++] = &layout->end;
  out[count++] = &layout->generation;
  out[count] = NULL;
}

static gd_status copy(const char *text, char **out) {
  *out = strdup(text);
  return *out ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for a template");
}

static gd_status copy_pair(const char *const pair[2], char **before, char **after) {
  GD_TRY(copy(pair[0], before));
  return copy(pair[1], after);
}

/* ---- a file ---- */

static gd_status read_text(const gd_json *root, const char *path, const char *key, const char *missing, char **out) {
  const gd_json *node = gd_json_get(root, key);
  const char *text = node ? gd_json_string(node) : missing;
  if (!text) return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" is no text", path, key);
  return copy(text, out);
}

static gd_status read_pair(const gd_json *root, const char *path, const char *key, bool needed, char **before, char **after) {
  static const char *const nothing[2] = {"", ""};
  const gd_json *node = gd_json_get(root, key), *first = gd_json_is_array(node) ? gd_json_first(node) : NULL;
  const gd_json *second = gd_json_next(first);
  if (!node && !needed) return copy_pair(nothing, before, after);
  if (!gd_json_string(first) || !gd_json_string(second) || gd_json_next(second))
    return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" is missing or no pair of texts, [before, after]", path, key);
  return copy_pair((const char *[2]){gd_json_string(first), gd_json_string(second)}, before, after);
}

static gd_status read_table(const gd_json *root, const char *path, gd_template *out) {
  static const char *const keys[] = {"name", "begin", "system", "user", "assistant", "input", "end", "generation"};
  if (!gd_json_is_object(root)) return gd_fail_user(GD_BAD_DATA, "%s: expected a JSON object, a template", path);
  for (const gd_json *node = gd_json_first(root); node; node = gd_json_next(node)) {
    size_t k = 0;
    while (k < sizeof keys / sizeof *keys && strcmp(gd_json_key(node), keys[k]) != 0) k++;
    if (k == sizeof keys / sizeof *keys)
      return gd_fail_user(GD_BAD_DATA,
                          "%s: \"%s\" is not known, expected begin, system, user, assistant, input, end or generation", path,
                          gd_json_key(node));
  }
  GD_TRY(read_text(root, path, "name", path, &out->name));
  GD_TRY(read_text(root, path, "begin", "", &out->begin));
  GD_TRY(read_text(root, path, "end", "", &out->end));
  for (int r = 0; r < GD_TURN_ROLES; r++)
    GD_TRY(read_pair(root, path, roles[r], r != GD_TURN_SYSTEM, &out->before[r], &out->after[r]));
  GD_TRY(read_pair(root, path, "input", false, &out->input[0], &out->input[1]));
  return read_text(root, path, "generation", out->before[GD_TURN_ASSISTANT], &out->generation);
}

const char *gd_template_known(int32_t index) {
  return index < KNOWN ? known[index].name : NULL;
}

gd_status gd_template_parse(const char *text, const char *where, gd_template *out) {
  gd_json *root = NULL;
  *out = (gd_template){0};
  gd_status status = gd_json_parse(text, strlen(text), where, 1, &root);
  if (status == GD_OK) status = read_table(root, where, out);
  gd_json_free(root);
  return status;
}

gd_status gd_template_open(const char *name, gd_template *out) {
  *out = (gd_template){0};
  for (int i = 0; i < KNOWN; i++) {
    if (strcmp(name, known[i].name) != 0) continue;
    GD_TRY(copy(name, &out->name));
    GD_TRY(copy(known[i].begin, &out->begin));
    GD_TRY(copy_pair(known[i].system, &out->before[GD_TURN_SYSTEM], &out->after[GD_TURN_SYSTEM]));
    GD_TRY(copy_pair(known[i].user, &out->before[GD_TURN_USER], &out->after[GD_TURN_USER]));
    GD_TRY(copy_pair(known[i].assistant, &out->before[GD_TURN_ASSISTANT], &out->after[GD_TURN_ASSISTANT]));
    GD_TRY(copy_pair(known[i].input, &out->input[0], &out->input[1]));
    GD_TRY(copy(known[i].end, &out->end));
    return copy(known[i].generation, &out->generation);
  }
  if (!gd_file_exists(name))
    return gd_fail_user(GD_USAGE, "template \"%s\": neither a file nor plain, alpaca, chatml or llama3", name);
  gd_json *root = NULL;
  gd_status status = gd_json_read(name, FILE_LIMIT, &root);
  if (status == GD_OK) status = read_table(root, name, out);
  gd_json_free(root);
  return status;
}

void gd_template_free(gd_template *layout) {
  char **texts[TEXTS];
  list_texts(layout, texts);
  for (int i = 0; texts[i]; i++) free(*texts[i]);
  free(layout->name);
  *layout = (gd_template){0};
}

static gd_status quote(gd_bytes *out, const char *before, const char *text) {
  GD_TRY(gd_bytes_printf(out, "%s", before));
  return gd_json_quote(out, text, strlen(text));
}

gd_status gd_template_write(const gd_template *layout, gd_bytes *out) {
  GD_TRY(quote(out, "{\"name\": ", layout->name));
  GD_TRY(quote(out, ", \"begin\": ", layout->begin));
  for (int r = 0; r < GD_TURN_ROLES; r++) {
    GD_TRY(gd_bytes_printf(out, ", \"%s\": [", roles[r]));
    GD_TRY(quote(out, "", layout->before[r]));
    GD_TRY(quote(out, ", ", layout->after[r]));
    GD_TRY(gd_bytes_append(out, "]", 1));
  }
  GD_TRY(quote(out, ", \"input\": [", layout->input[0]));
  GD_TRY(quote(out, ", ", layout->input[1]));
  GD_TRY(quote(out, "], \"end\": ", layout->end));
  GD_TRY(quote(out, ", \"generation\": ", layout->generation));
  return gd_bytes_append(out, "}", 1);
}

/* ---- its tokens ---- */

/* The first <|...|> of a text that is no token of the tokenizer: *count is its length; NULL: all are. */
static const char *find_lacking(const gd_tokenizer *tokenizer, const char *text, size_t *count) {
  for (const char *at = text; (at = strstr(at, "<|")); at += 2) {
    const char *close = strstr(at, "|>");
    if (!close) return NULL;
    *count = (size_t)(close + 2 - at);
    size_t place, length;
    if (gd_tokenizer_find_special(tokenizer, at, *count, &place, &length) < 0 || place || length != *count) return at;
  }
  return NULL;
}

gd_status gd_template_check(const gd_template *layout, const gd_tokenizer *tokenizer, int32_t *end) {
  gd_template table = *layout;
  char **texts[TEXTS];
  list_texts(&table, texts);
  for (int i = 0; texts[i]; i++) {
    size_t count;
    const char *lacking = find_lacking(tokenizer, *texts[i], &count);
    if (lacking)
      return gd_fail_user(
          GD_USAGE,
          "template %s: names the token %.*s, which the tokenizer (%s, %.12s) does not have; plain and alpaca need none, and "
          "gptdist-data prepare --add-special adds tokens",
          layout->name, (int)count, lacking, gd_tokenizer_name(tokenizer), gd_tokenizer_digest(tokenizer));
  }
  size_t length = strlen(layout->end), place, found;
  *end = length ? gd_tokenizer_find_special(tokenizer, layout->end, length, &place, &found) : gd_tokenizer_eot(tokenizer);
  if (length && *end >= 0 && (place || found != length)) *end = -1;
  if (*end >= 0) return GD_OK;
  if (length)
    return gd_fail_user(GD_USAGE, "template %s: its end \"%s\" is no special token of the tokenizer (%s)", layout->name,
                        layout->end, gd_tokenizer_name(tokenizer));
  return gd_fail_user(GD_USAGE, "template %s: names no end token, and the tokenizer (%s) has no end of text", layout->name,
                      gd_tokenizer_name(tokenizer));
}
