/* Templates as chat_template: ours written as Jinja and known again, however somebody wrote it; another one is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/data/chat_template.h"
#include "tests/own_folder.h"

static void write_file(const char *name, const char *text) {
  char path[300];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  ok(gd_file_write(path, text, strlen(text)));
}

static const char *name_of(const char *text) {
  const char *name;
  ok(gd_chat_template_name(text, strlen(text), &name));
  return name ? name : "none";
}

static void same(const char *a, const char *b) {
  gd_bytes first = {0}, second = {0};
  ok(gd_jinja_normal(a, strlen(a), &first));
  ok(gd_jinja_normal(b, strlen(b), &second));
  assert_string_equal(first.bytes, second.bytes);
  gd_bytes_free(&first);
  gd_bytes_free(&second);
}

static void another(const char *a, const char *b) {
  gd_bytes first = {0}, second = {0};
  ok(gd_jinja_normal(a, strlen(a), &first));
  ok(gd_jinja_normal(b, strlen(b), &second));
  if (strcmp(first.bytes, second.bytes) == 0) fail_msg("\"%s\" and \"%s\" are both %s", a, b, first.bytes);
  gd_bytes_free(&first);
  gd_bytes_free(&second);
}

static void ours_are_known_again(void **state) {
  (void)state;
  static const char *const begins[] = {NULL, "<s>", "<|begin_of_text|>"};
  const char *name;
  for (int i = 0; (name = gd_template_known(i)); i++)
    for (size_t b = 0; b < 3; b++) {
      gd_template layout;
      gd_bytes text = {0};
      ok(gd_template_open(name, &layout));
      ok(gd_chat_template_write(&layout, begins[b], &text));
      assert_string_equal(name_of(text.bytes), name);
      text.bytes[text.count / 2] ^= 1;
      assert_string_equal(name_of(text.bytes), "none");
      gd_bytes_free(&text);
      gd_template_free(&layout);
    }
}

static void expect_begin(const char *name, const char *bos, const char *wanted) {
  gd_template layout;
  gd_bytes text = {0};
  ok(gd_template_open(name, &layout));
  ok(gd_chat_template_write(&layout, bos, &text));
  if (strncmp(text.bytes, wanted, strlen(wanted)) != 0) fail_msg("%s, expected %s", text.bytes, wanted);
  gd_bytes_free(&text);
  gd_template_free(&layout);
}

static void what_begins_a_text_stands_once(void **state) {
  (void)state;
  expect_begin("llama3", "<|begin_of_text|>", "{{ bos_token }}{% for");
  expect_begin("llama3", "<s>", "{{ bos_token }}{{ \"<|begin_of_text|>\" }}{% for");
  expect_begin("llama3", NULL, "{{ \"<|begin_of_text|>\" }}{% for");
  expect_begin("chatml", "<s>", "{{ bos_token }}{% for");
  expect_begin("chatml", NULL,
               "{% for message in messages %}{% if message['role'] == 'system' %}{{ \"<|im_start|>system\\n\" + "
               "message['content'] + \"<|im_end|>\\n\" }}{% elif");
}

static void others_words_for_them_are_known(void **state) {
  (void)state;
  assert_string_equal(name_of("{%- for m in messages %}{{ m }}{% endfor %}"), "none");
  assert_string_equal(name_of("{% for message in messages %}\n"
                              "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\n"
                              "{%- endfor %}{# then #}{% if add_generation_prompt -%}\n  {{ \"<|im_start|>assistant\\n\" }}"
                              "{%- endif -%}\n"),
                      "chatml");
  assert_string_equal(
      name_of("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
              "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}{{ message[\"content\"] }}<|im_end|>{{ "
              "\"\\n\" }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"),
      "chatml");
  assert_string_equal(name_of("{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content|trim + "
                              "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"),
                      "none");
  assert_string_equal(
      name_of("{% set loop_messages = messages %}{% for message in loop_messages %}"
              "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim"
              " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
              "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
              "{% endif %}"),
      "llama3");
  assert_string_equal(name_of(""), "none");
}

static void one_form_for_the_same_words(void **state) {
  (void)state;
  same("a{{ 'b' + x + \"c\" }}d", "ab{{x}}cd");
  same("{{ m.a.b }}{{ m['a'] }}", "{{ m[\"a\"]['b'] }}{{m . a}}");
  another("{{ m.a() }}", "{{ m['a']() }}");
  same("{{ 'it\\'s' }}", "it's");
  same("x\n{# no #}\n y", "x\n y");
  same("{% if a %}\n  {% if b %}\nc{% endif %}\n{% endif %}\n", "{%if a%}{%if b%}c{%endif%}{%endif%}");
  same("a \n {%- if b -%} \n c", "a{%if b%}c");
  same("{{ a -}} \n b", "{{ a }}b");
  another("{% if a %}\n\n{% endif %}", "{% if a %}{% endif %}");
  another("{{ a }}\n{{ b }}", "{{ a }}{{ b }}");
  another("a {% if b %}", "a{% if b %}");
  another("{%+ if a %}", "{% if b %}");
  same("  {% if a %}", "{% if a %}");
  another("  {%+ if a %}", "{% if a %}");
  another("{{ 'a' if b else 'c' + 'd' }}", "{{ 'a' if b else 'c' }}d");
  another("{{ 'a' * 2 + 'b' }}", "{{ 'a' * 2 }}b");
  same("{{ f('a' + b) + 'c' }}", "{{ f('a' + b) }}c");
  same("{{ f(a, b if c) + 'd' }}", "{{ f(a, b if c) }}d");
  another("{{ [a + 'x' + b] }}", "{{ [a }}x{{ b] }}");
  another("{{ f('a' + b) }}", "{{ f('a') + b }}");
  another("{{ 'x }} y' }}", "x }} y{{ '' }} ");
  same("{{ 'x }} y' }}", "x }} y");
  another("{{ nobody closes", "nobody closes");
  another("{{ 'nobody closes", "{{ nobody closes");
  another("{{ not a }}", "{{ nota }}");
}

static void find(const char *where_it_stands, const char *name) {
  char where[GD_PATH_BYTES], wanted[300];
  gd_bytes stranger = {0};
  gd_template layout;
  ok(gd_chat_template_find(folder, where, &stranger, &layout));
  snprintf(wanted, sizeof wanted, "%s/%s", folder, where_it_stands);
  assert_string_equal(where, where_it_stands[0] ? wanted : "");
  assert_string_equal(layout.name ? layout.name : "none", name);
  if (where[0] && !layout.name) {
    assert_int_equal(gd_chat_template_refuse(where, &stranger, ", or none"), GD_USAGE);
    assert_non_null(strstr(gd_error_text(),
                           "none of plain, alpaca, chatml or llama3; choose one of them or a file with "
                           "--template, or none"));
    assert_non_null(strstr(gd_error_text(), wanted));
    gd_error_clear();
  }
  gd_bytes_free(&stranger);
  gd_template_free(&layout);
}

static void a_folder_has_one_place_for_it(void **state) {
  (void)state;
  static const char chatml[] =
      "{% for message in messages %}<|im_start|>{{ message.role }}\\n{{ message.content }}<|im_end|>\\n"
      "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}";
  char text[600];
  find("", "none");
  write_file("tokenizer_config.json", "{\"chat_template\": null}");
  find("", "none");
  snprintf(text, sizeof text, "{\"chat_template\": \"%s\"}", chatml);
  write_file("tokenizer_config.json", text);
  find("tokenizer_config.json", "chatml");
  snprintf(text, sizeof text,
           "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": \"%s\"}]}",
           chatml);
  write_file("tokenizer_config.json", text);
  find("tokenizer_config.json", "chatml");
  write_file("chat_template.jinja",
             "{{ messages[0].content }} \xe6\xbc\xa2 and so on, for longer than anybody wants to read of it");
  find("chat_template.jinja", "none");
  ok(gd_folder_remove(folder));
  ok(gd_folder_make(folder));
  write_file("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"x\"}]}");
  char where[GD_PATH_BYTES];
  gd_bytes stranger = {0};
  gd_template layout;
  assert_int_equal(gd_chat_template_find(folder, where, &stranger, &layout), GD_BAD_DATA);
  assert_non_null(strstr(gd_error_text(), "chat_template: found neither a text nor a list with one called default"));
  gd_error_clear();
  gd_bytes_free(&stranger);
}

/* What chatml says, with `by` in the place of its end token. */
static const char *chatml_ends(const char *by) {
  static char text[400];
  snprintf(text, sizeof text,
           "{%% for message in messages %%}<|im_start|>{{ message.role }}\n{{ message.content }}%s\n{%% endfor %%}"
           "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}",
           by);
  return text;
}

static void what_means_another_thing_is_none_of_ours(void **state) {
  (void)state;
  static const struct {
    const char *end, *name;
  } cases[] = {{"<|im_end|>", "chatml"},
               {"{{ '<|im_' + '' ~ \"end|>\" }}", "chatml"},
               {"{{ '<\\|im_end|>' }}", "none"}, /* the backslash stays */
               {"{{ '<|im_end|>' + }}", "none"},
               {"{{ '<|im_end|>' +}}", "none"},
               {"{{ '<|im_' + + 'end|>' }}", "none"},
               {"{{ + '<|im_end|>' }}", "none"},
               {"{{ '<|im_end|>' }}{{ }}", "none"},
               {"{{ '<|im_end|>') }}", "none"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert_string_equal(name_of(chatml_ends(cases[i].end)), cases[i].name);
  char text[500];
  const char *name, *ours = chatml_ends("<|im_end|>"), *prompt = strstr(ours, "prompt %}") + 6;
  size_t before = (size_t)(prompt - ours);
  int count = snprintf(text, sizeof text, "%.*s%c and false%s", (int)before, ours, 0, prompt);
  ok(gd_chat_template_name(text, (size_t)count, &name));
  assert_null(name);
}

static void a_long_sum_takes_as_long_as_it_is(void **state) {
  (void)state;
  enum { TERMS = 60000 };
  gd_bytes text = {0};
  ok(gd_bytes_printf(&text, "{{ 'a'"));
  for (int i = 1; i < TERMS; i++) ok(gd_bytes_append(&text, "+'a'", 4));
  ok(gd_bytes_printf(&text, " }}"));
  clock_t start = clock();
  assert_string_equal(name_of(text.bytes), "none");
  assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
  gd_bytes_free(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ours_are_known_again),
      cmocka_unit_test(what_begins_a_text_stands_once),
      cmocka_unit_test(others_words_for_them_are_known),
      cmocka_unit_test(one_form_for_the_same_words),
      cmocka_unit_test(a_folder_has_one_place_for_it),
      cmocka_unit_test(what_means_another_thing_is_none_of_ours),
      cmocka_unit_test(a_long_sum_takes_as_long_as_it_is),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
