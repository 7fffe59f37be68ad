/* safetensors.c - a .safetensors file, as it is or with the length of its header put right: the header, then every tensor of
 * it. */
#include <stdlib.h>

#include "io/checkpoint/safetensors.h"
#include "tests/fuzz/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[GD_PATH_BYTES];
  gd_safetensors *file = NULL;
  int32_t count = 0;
  fuzz_write_safetensors("model.safetensors", (fuzz_part){(const char *)data, size}, path);
  if (!fuzz_accepted(gd_safetensors_open(path, &file), GD_BAD_DATA)) return 0;
  const gd_safetensor *list = gd_safetensors_list(file, &count);
  for (int32_t i = 0; i < count; i++) {
    const gd_safetensor *at = &list[i];
    fuzz_check(gd_safetensors_find(file, at->name) == at, "a tensor is not found by its name");
    fuzz_check(at->offset >= 0 && (size_t)at->bytes <= size, "a tensor is larger than its file");
    gd_box whole = {0, at->dims ? at->shape[0] : 1, 0, at->dims == 2 ? at->shape[1] : 1};
    float *out = malloc((size_t)at->bytes * 2 + sizeof *out); /* two bytes an element or more */
    if (!out) abort();
    (void)fuzz_accepted(gd_safetensors_read(file, at, whole, out), GD_BAD_DATA);
    whole.row = 1;
    fuzz_check(!fuzz_accepted(gd_safetensors_read(file, at, whole, out), GD_BAD_DATA), "rows behind a tensor are read");
    free(out);
  }
  gd_safetensors_close(file);
  return 0;
}
