/* tokenizer_hf.c - Hugging Face's tokenizer.json and a text. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_part parts[2];
  char path[GD_PATH_BYTES];
  fuzz_parts(data, size, parts, 2);
  fuzz_write("tokenizer.json", parts[0].bytes, parts[0].count, path);
  fuzz_tokenizer("hf:", path, parts[1], !fuzz_has_unknown(parts[0]));
  return 0;
}
