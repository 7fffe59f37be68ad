/* tokenizer_gpt2.c - vocab.json, merges.txt and a text. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_part parts[3];
  char path[GD_PATH_BYTES];
  fuzz_parts(data, size, parts, 3);
  fuzz_alone();
  fuzz_write("vocab.json", parts[0].bytes, parts[0].count, path);
  fuzz_write("merges.txt", parts[1].bytes, parts[1].count, path);
  fuzz_tokenizer("gpt2:", fuzz_folder(), parts[2], !fuzz_has_unknown(parts[0]));
  return 0;
}
