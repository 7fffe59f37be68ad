/* tokenizer_folder.c - gptdist-tokenizer.json, which says what belongs in its folder, and the files there. */
#include "tests/fuzz/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const own[] = {"vocab.json",       "merges.txt",    "ranks.tiktoken",
                                    "huggingface.json", "tokenizer.bin", "chars.txt"};
  fuzz_part parts[3];
  char path[GD_PATH_BYTES];
  fuzz_parts(data, size, parts, 3);
  fuzz_write("gptdist-tokenizer.json", parts[0].bytes, parts[0].count, path);
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    fuzz_write(own[i], parts[i == 1 ? 2 : 1].bytes, parts[i == 1 ? 2 : 1].count, path);
  fuzz_tokenizer("", fuzz_folder(), (fuzz_part){"a b", 3}, false);
  return 0;
}
