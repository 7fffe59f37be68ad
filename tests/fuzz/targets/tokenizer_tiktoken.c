/* tokenizer_tiktoken.c - ranks in base64, plain or packed, and a text. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_part parts[2];
  char path[GD_PATH_BYTES];
  fuzz_parts(data, size, parts, 2);
  fuzz_write("ranks.tiktoken", parts[0].bytes, parts[0].count, path);
  fuzz_tokenizer("tiktoken:", path, parts[1], true);
  return 0;
}
