/* dataset.c - a dataset: index.json, whose own digest is put right (the first byte '=' leaves it as it is), and the bytes of
 * the shard that it names. What is accepted is read whole. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/base/files.h"
#include "io/base/sha256.h"
#include "io/data/dataset.h"
#include "io/data/split.h"
#include "tests/fuzz/fuzz.h"

enum { T = 8, DRAWS = 4, TAIL_BYTES = 83 }; /* docs/formats.md */

static void write_index(fuzz_part index) {
  char path[GD_PATH_BYTES], hex[GD_SHA256_HEX_BYTES];
  uint8_t digest[GD_SHA256_BYTES];
  gd_bytes text = {0};
  bool as_it_is = index.count && index.bytes[0] == '=';
  if (as_it_is || index.count < TAIL_BYTES) {
    fuzz_write("index.json", index.bytes + as_it_is, index.count - as_it_is, path);
    return;
  }
  fuzz_must(gd_bytes_append(&text, index.bytes, index.count - TAIL_BYTES));
  fuzz_must(gd_sha256_bytes(text.bytes, text.count, digest));
  gd_sha256_hex(digest, hex);
  fuzz_must(gd_bytes_printf(&text, ",\n  \"digest\": \"%s\"\n}\n", hex));
  fuzz_write("index.json", text.bytes, text.count, path);
  gd_bytes_free(&text);
}

static void use_split(void) {
  gd_split *split = NULL;
  int32_t ids[T], starts[T];
  if (!fuzz_accepted(gd_split_open(fuzz_folder(), &split), GD_BAD_DATA)) return;
  const gd_token_shard_info *info = gd_split_info(split);
  if (fuzz_accepted(gd_split_verify(split), GD_BAD_DATA) && info->tokens >= T) {
    for (int64_t first = 0; first<info->tokens; first += info->tokens - T> 0 ? info->tokens - T : T) {
      int64_t count = info->tokens - first < T ? info->tokens - first : T;
      fuzz_must(gd_split_read(split, first, count, ids));
      for (int64_t i = 0; i < count; i++) fuzz_check(ids[i] >= 0 && ids[i] < info->vocabulary, "an id beyond the vocabulary");
      fuzz_must(gd_split_document_starts(split, first, count, starts));
      for (int64_t i = 0; i < count; i++) fuzz_check(starts[i] >= 0 && starts[i] <= i, "a document starts behind its token");
    }
  }
  gd_split_close(split);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_part parts[2];
  char path[GD_PATH_BYTES];
  gd_dataset *dataset = NULL;
  gd_batch batch = {0};
  fuzz_parts(data, size, parts, 2);
  write_index(parts[0]);
  fuzz_write("00000.h5", parts[1].bytes, parts[1].count, path);
  use_split();
  gd_status status = gd_dataset_open_split(fuzz_folder(), T, true, false, &dataset);
  if (status == GD_USAGE) status = GD_BAD_DATA; /* too few tokens */
  if (!fuzz_accepted(status, GD_BAD_DATA)) return 0;
  fuzz_must(gd_batch_open(DRAWS, T, &batch));
  if (fuzz_accepted(gd_dataset_read(dataset, 0, DRAWS, &batch, 0), GD_BAD_DATA))
    for (int i = 0; i < DRAWS * T; i++)
      fuzz_check(batch.tokens[i] >= 0 && batch.tokens[i] < gd_dataset_vocabulary(dataset), "an id beyond the vocabulary");
  gd_batch_close(&batch);
  gd_dataset_close(dataset);
  return 0;
}
