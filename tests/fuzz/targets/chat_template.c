/* chat_template.c - a text of Jinja: its normal form is one, whatever it is, and its name is that of its normal form. */
#include <string.h>

#include "io/data/chat_template.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  gd_bytes normal = {0}, again = {0};
  const char *name;
  if (!fuzz_accepted(gd_jinja_normal((const char *)data, size, &normal), GD_BAD_DATA)) return 0;
  fuzz_must(gd_jinja_normal((const char *)data, size, &again));
  fuzz_check(normal.count == again.count && memcmp(normal.bytes, again.bytes, normal.count) == 0, "two forms of one text");
  fuzz_must(gd_chat_template_name((const char *)data, size, &name));
  fuzz_check(!name || normal.count > 100, "a short text is one of ours");
  gd_bytes_free(&normal);
  gd_bytes_free(&again);
  return 0;
}
