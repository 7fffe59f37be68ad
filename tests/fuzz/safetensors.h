/* safetensors.h - what the fuzzers of .safetensors files share. */
#ifndef GD_TESTS_FUZZ_SAFETENSORS_H
#define GD_TESTS_FUZZ_SAFETENSORS_H

#include <string.h>

#include "io/base/files.h"
#include "tests/fuzz/fuzz.h"

/* Writes FOLDER/NAME: the bytes as they are, or, where they begin with a brace, the first line as the header, with its length
 * before it, and the rest as data. Else every change to the header's text would be refused for its length alone. */
static inline void fuzz_write_safetensors(const char *name, fuzz_part part, char path[GD_PATH_BYTES]) {
  if (!part.count || part.bytes[0] != '{') {
    fuzz_write(name, part.bytes, part.count, path);
    return;
  }
  gd_bytes file = {0};
  const char *end = memchr(part.bytes, '\n', part.count);
  uint64_t length = end ? (uint64_t)(end - part.bytes) : part.count;
  size_t data = end ? length + 1 : length;
  fuzz_must(gd_bytes_append(&file, &length, sizeof length));
  fuzz_must(gd_bytes_append(&file, part.bytes, length));
  fuzz_must(gd_bytes_append(&file, part.bytes + data, part.count - data));
  fuzz_write(name, file.bytes, file.count, path);
  gd_bytes_free(&file);
}

#endif
