/* json.c - JSON text: every node is looked at with every function, every string is written and read again. */
#include <string.h>

#include "io/base/json.h"
#include "tests/fuzz/fuzz.h"

static void round_trip(const gd_json *node) {
  gd_bytes text = {0}, quoted = {0}, back = {0}, twice = {0};
  gd_json *again = NULL;
  fuzz_must(gd_json_text(node, &text));
  fuzz_must(gd_json_quote(&quoted, text.count ? text.bytes : "", text.count));
  fuzz_must(gd_json_parse(quoted.bytes, quoted.count, "quoted", 1, &again));
  fuzz_must(gd_json_text(again, &back));
  fuzz_must(gd_json_quote(&twice, back.count ? back.bytes : "", back.count)); /* what was no UTF-8 is U+FFFD by now */
  fuzz_check(twice.count == quoted.count && memcmp(twice.bytes, quoted.bytes, twice.count) == 0,
             "a string that was written and read is another one");
  gd_json_free(again);
  gd_bytes_free(&text);
  gd_bytes_free(&quoted);
  gd_bytes_free(&back);
  gd_bytes_free(&twice);
}

static void walk(const gd_json *node) {
  double number;
  int64_t integer;
  bool boolean;
  (void)gd_json_boolean(node, &boolean);
  if (gd_json_integer(node, &integer))
    fuzz_check(gd_json_number(node, &number) && number == (double)integer, "an integer is no number");
  if (gd_json_string(node)) round_trip(node);
  for (const gd_json *child = gd_json_first(node); child; child = gd_json_next(child)) {
    const char *key = gd_json_key(child);
    if (gd_json_is_object(node)) fuzz_check(key && gd_json_get(node, key), "a key is not found");
    walk(child);
  }
}

/* The members of an object, copied as they are written, are the same object. */
static void copy(const gd_json *object, const char *text) {
  gd_bytes copied = {0}, before = {0}, after = {0};
  gd_json *again = NULL;
  fuzz_must(gd_bytes_append(&copied, "{", 1));
  fuzz_must(gd_json_copy_members(object, text, NULL, &copied));
  fuzz_must(gd_bytes_append(&copied, "}", 1));
  fuzz_must(gd_json_parse(copied.bytes, copied.count, "copied", 1, &again));
  fuzz_must(gd_json_print(object, &before));
  fuzz_must(gd_json_print(again, &after));
  fuzz_check(before.count == after.count && memcmp(before.bytes, after.bytes, after.count) == 0, "copied members are others");
  gd_json_free(again);
  gd_bytes_free(&copied);
  gd_bytes_free(&before);
  gd_bytes_free(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  gd_json *root = NULL;
  if (!fuzz_accepted(gd_json_parse((const char *)data, size, "input", 1, &root), GD_BAD_DATA)) return 0;
  walk(root);
  if (gd_json_is_object(root)) copy(root, (const char *)data);
  gd_json_free(root);
  return 0;
}
