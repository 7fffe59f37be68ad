/* tokenizer_llama2c.c - llama2.c's tokenizer.bin and a text. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_part parts[2];
  char path[GD_PATH_BYTES];
  fuzz_parts(data, size, parts, 2);
  fuzz_write("tokenizer.bin", parts[0].bytes, parts[0].count, path);
  fuzz_tokenizer("llama2c:", path, parts[1], false);
  return 0;
}
