/* chat_template.c - a table as Jinja, and which of ours a text of Jinja is. */
#include "io/data/chat_template.h"

#include <stdio.h>
#include <string.h>

#include "io/base/utf8.h"

enum { FILE_LIMIT = 16 << 20 };

/* ---- out ---- */

static gd_status quote(const char *text, gd_bytes *out) {
  return gd_json_quote(out, text, strlen(text)); /* Jinja's strings have JSON's escapes */
}

/* What a turn says, where `condition` holds. end: an expression, "": no end token. */
static gd_status put_turn(const char *condition, const char *before, const char *end, const char *after, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "{%% %s %%}{{ ", condition));
  GD_TRY(quote(before, out));
  GD_TRY(gd_bytes_printf(out, " + message['content']%s%s", end[0] ? " + " : "", end));
  if (after[0]) GD_TRY(gd_bytes_printf(out, " + "));
  if (after[0]) GD_TRY(quote(after, out));
  return gd_bytes_printf(out, " }}");
}

static gd_status put_turns(const gd_template *layout, const char *end, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "{%% for message in messages %%}"));
  GD_TRY(put_turn("if message['role'] == 'system'", layout->before[GD_TURN_SYSTEM], "", layout->after[GD_TURN_SYSTEM], out));
  GD_TRY(put_turn("elif message['role'] == 'user'", layout->before[GD_TURN_USER], "", layout->after[GD_TURN_USER], out));
  GD_TRY(put_turn("elif message['role'] == 'assistant' and loop.last and not add_generation_prompt", layout->generation, end,
                  "", out));
  GD_TRY(put_turn("elif message['role'] == 'assistant'", layout->before[GD_TURN_ASSISTANT], end,
                  layout->after[GD_TURN_ASSISTANT], out));
  return gd_bytes_printf(out,
                         "{%% else %%}{{ raise_exception('a role is system, user or assistant') }}{%% endif %%}{%% endfor %%}");
}

gd_status gd_chat_template_write(const gd_template *layout, const char *bos, gd_bytes *out) {
  const char *begin = layout->begin;
  gd_bytes end = {0};
  if (bos) GD_TRY(gd_bytes_printf(out, "{{ bos_token }}"));
  if (bos && strncmp(begin, bos, strlen(bos)) == 0) begin += strlen(bos); /* it stands there once */
  if (begin[0]) {
    GD_TRY(gd_bytes_printf(out, "{{ "));
    GD_TRY(quote(begin, out));
    GD_TRY(gd_bytes_printf(out, " }}"));
  }
  gd_status status = layout->end[0] ? quote(layout->end, &end) : gd_bytes_printf(&end, "eos_token");
  if (status == GD_OK) status = put_turns(layout, end.bytes, out);
  gd_bytes_free(&end);
  GD_TRY(status);
  GD_TRY(gd_bytes_printf(out, "{%% if add_generation_prompt %%}{{ "));
  GD_TRY(quote(layout->generation, out));
  return gd_bytes_printf(out, " }}{%% endif %%}");
}

/* ---- in ---- */

/* What others write for one of ours: any role in one line. That of Llama 3 drops white space at the ends of what a turn says.
 */
static const struct {
  const char *name, *text;
} others[] = {
    {"chatml",
     "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"},
    {"llama3",
     "{% set loop_messages = messages %}{% for message in loop_messages %}"
     "{% set content = '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content|trim + '<|eot_id|>' %}"
     "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
     "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"},
};

/* What some begin with, and what transformers says anyway. */
static const char preset[] = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}";

static gd_status compare(const gd_bytes *normal, const char *text, size_t count, bool *equal) {
  gd_bytes wanted = {0};
  gd_status status = gd_jinja_normal(text, count, &wanted);
  *equal = status == GD_OK && wanted.count == normal->count && memcmp(wanted.bytes, normal->bytes, wanted.count) == 0;
  gd_bytes_free(&wanted);
  return status;
}

/* As gd_chat_template_write has it, for any tokenizer: without a token before it, with one, and with that of the table. */
static gd_status compare_own(const gd_bytes *normal, const char *name, bool *equal) {
  gd_template layout;
  gd_bytes text = {0};
  gd_status status = gd_template_open(name, &layout);
  const char *const begins[] = {NULL, "", layout.begin};
  *equal = false;
  for (size_t i = 0; status == GD_OK && !*equal && i < sizeof begins / sizeof *begins; i++) {
    text.count = 0;
    status = gd_chat_template_write(&layout, begins[i], &text);
    if (status == GD_OK) status = compare(normal, text.bytes, text.count, equal);
  }
  gd_bytes_free(&text);
  gd_template_free(&layout);
  return status;
}

static gd_status name_of(const gd_bytes *normal, const char **out) {
  bool equal = false;
  const char *name;
  for (int i = 0; (name = gd_template_known(i)); i++) {
    GD_TRY(compare_own(normal, name, &equal));
    if (equal) *out = name;
  }
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    GD_TRY(compare(normal, others[i].text, strlen(others[i].text), &equal));
    if (equal) *out = others[i].name;
  }
  return GD_OK;
}

gd_status gd_chat_template_name(const char *text, size_t count, const char **out) {
  gd_bytes normal = {0}, before = {0};
  *out = NULL;
  gd_status status = gd_jinja_normal(text, count, &normal);
  if (status == GD_OK) status = gd_jinja_normal(preset, sizeof preset - 1, &before);
  if (status == GD_OK && normal.count >= before.count && memcmp(normal.bytes, before.bytes, before.count) == 0)
    memmove(normal.bytes, normal.bytes + before.count, normal.count -= before.count);
  if (status == GD_OK) status = name_of(&normal, out);
  gd_bytes_free(&normal);
  gd_bytes_free(&before);
  return status;
}

/* ---- of a folder ---- */

static gd_status read_config(const char *path, char where[GD_PATH_BYTES], gd_bytes *out) {
  gd_json *root = NULL;
  GD_TRY(gd_json_read(path, FILE_LIMIT, &root));
  const gd_json *node = gd_json_get(root, "chat_template"), *found = node;
  if (gd_json_is_array(node)) {
    found = NULL;
    for (const gd_json *at = gd_json_first(node); at; at = gd_json_next(at)) {
      const char *name = gd_json_string(gd_json_get(at, "name"));
      if (name && strcmp(name, "default") == 0) found = gd_json_get(at, "template");
    }
  }
  gd_status status = GD_OK;
  if (gd_json_string(found)) {
    snprintf(where, GD_PATH_BYTES, "%s", path);
    status = gd_json_text(found, out);
  } else if (node && !gd_json_is_null(node)) {
    status = gd_fail_user(GD_BAD_DATA, "%s: chat_template: found neither a text nor a list with one called default", path);
  }
  gd_json_free(root);
  return status;
}

gd_status gd_chat_template_read(const char *folder, char where[GD_PATH_BYTES], gd_bytes *out) {
  char path[GD_PATH_BYTES];
  where[0] = 0;
  GD_TRY(gd_path_join(path, sizeof path, folder, "chat_template.jinja"));
  if (gd_file_exists(path)) {
    snprintf(where, GD_PATH_BYTES, "%s", path);
    return gd_file_read(path, FILE_LIMIT, out);
  }
  GD_TRY(gd_path_join(path, sizeof path, folder, "tokenizer_config.json"));
  return gd_file_exists(path) ? read_config(path, where, out) : GD_OK;
}

gd_status gd_chat_template_find(const char *folder, char where[GD_PATH_BYTES], gd_bytes *stranger, gd_template *out) {
  const char *name = NULL;
  *out = (gd_template){0};
  GD_TRY(gd_chat_template_read(folder, where, stranger));
  if (!where[0]) return GD_OK;
  GD_TRY(gd_chat_template_name(stranger->count ? stranger->bytes : "", stranger->count, &name));
  return name ? gd_template_open(name, out) : GD_OK;
}

gd_status gd_chat_template_refuse(const char *where, const gd_bytes *stranger, const char *more) {
  enum { SHOWN = 60 };
  char begin[SHOWN + 1];
  size_t count = stranger->count < SHOWN ? stranger->count : SHOWN;
  count -= gd_utf8_unfinished(stranger->bytes, count);
  for (size_t i = 0; i < count; i++) begin[i] = (char)((uint8_t)stranger->bytes[i] < 32 ? ' ' : stranger->bytes[i]);
  begin[count] = 0;
  return gd_fail_user(GD_USAGE,
                      "%s: its chat_template (\"%s%s\", %zu bytes) is none of plain, alpaca, chatml or llama3; choose one of "
                      "them or a file with --template%s",
                      where, begin, count < stranger->count ? "..." : "", stranger->count, more);
}
