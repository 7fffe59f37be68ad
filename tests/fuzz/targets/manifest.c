/* manifest.c - MANIFEST.pb. What was accepted is encoded and decoded again to the same bytes. */
#include <string.h>

#include "io/checkpoint/manifest.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  gd_manifest manifest, again;
  gd_bytes first = {0}, second = {0};
  if (!fuzz_accepted(gd_manifest_decode("MANIFEST.pb", data, size, &manifest), GD_BAD_DATA)) return 0;
  for (int32_t t = 0; t < manifest.tensor_count; t++)
    fuzz_check(gd_manifest_kinds(&manifest, t) & 1, "a tensor without weights");
  fuzz_must(gd_manifest_encode(&manifest, &first));
  fuzz_must(gd_manifest_decode("encoded", first.bytes, first.count, &again));
  fuzz_must(gd_manifest_encode(&again, &second));
  fuzz_check(first.count == second.count && memcmp(first.bytes, second.bytes, first.count) == 0,
             "a manifest that was decoded and encoded is another one");
  gd_manifest_free(&manifest);
  gd_manifest_free(&again);
  gd_bytes_free(&first);
  gd_bytes_free(&second);
  return 0;
}
