/* tokenizer_hf.c - Hugging Face's tokenizer.json and a text; or tokenizer.json, tokenizer_config.json, which as
 * generation_config.json says what ends a turn, too, and a text. */
#include "tests/fuzz/tokenizer.h"

/* Text that a file may change on purpose. */
static bool is_exact(fuzz_part file) {
  static const char *const words[] = {"unk", "NFC", "strip", "Removed", "byte_fallback"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (file.count && memmem(file.bytes, file.count, words[i], strlen(words[i]))) return false;
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_part parts[3];
  char path[GD_PATH_BYTES], beside[GD_PATH_BYTES];
  int count = fuzz_parts(data, size, parts, 3);
  fuzz_alone();
  for (int i = 0; count == 3 && i < 2; i++)
    fuzz_write(i ? "generation_config.json" : "tokenizer_config.json", parts[1].bytes, parts[1].count, beside);
  fuzz_write("tokenizer.json", parts[0].bytes, parts[0].count, path);
  fuzz_tokenizer("hf:", path, parts[count == 3 ? 2 : 1], is_exact(parts[0]));
  return 0;
}
