/* bench_reader SPLIT_FOLDER [SEQUENCE_LENGTH]: how fast shuffled windows of a token shard folder are read, through the prefetch
 * thread as a training run does and on the caller's thread. Megabytes are of tokens as they lie on the disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/data/dataset.h"

enum { ROWS = 16 };

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static gd_status read_for_a_second(gd_dataset *dataset, gd_prefetch *prefetch, gd_batch *batch, double *windows_per_s) {
  int64_t windows = 0;
  double start = now_s(), end;
  do {
    if (prefetch)
      GD_TRY(gd_prefetch_next(prefetch, batch));
    else
      GD_TRY(gd_dataset_read(dataset, windows, ROWS, batch, 0));
    windows += ROWS;
    end = now_s();
  } while (end - start < 1);
  *windows_per_s = (double)windows / (end - start);
  return GD_OK;
}

static gd_status measure(const char *folder, int32_t length) {
  static gd_data_spec data;
  gd_dataset *dataset;
  gd_prefetch *prefetch;
  gd_batch batch;
  data.sources = 1;
  data.weight[0] = 1;
  snprintf(data.path[0], sizeof data.path[0], "%s", folder);
  GD_TRY(gd_dataset_open(&data, length, GD_ORDER_SHUFFLED, 1, true, &dataset));
  GD_TRY(gd_batch_open(ROWS, length, &batch));
  gd_prefetch_plan plan = {.draws_per_step = ROWS, .count = ROWS, .depth = 2};
  GD_TRY(gd_prefetch_open(dataset, &plan, &prefetch));
  int token_bytes = gd_dataset_vocabulary(dataset) <= 65536 ? 2 : 4;
  for (int ahead = 0; ahead < 2; ahead++) {
    double windows = 0;
    GD_TRY(read_for_a_second(dataset, ahead ? prefetch : 0, &batch, &windows));
    printf("%-24s %9.1f MB/s  %12.0f tokens/s  (windows of %d)\n", ahead ? "reader, prefetched" : "reader, direct",
           windows * length * token_bytes / 1e6, windows * length, length);
  }
  gd_prefetch_close(prefetch);
  gd_batch_close(&batch);
  gd_dataset_close(dataset);
  return GD_OK;
}

int main(int count, char **arguments) {
  if (count < 2) {
    fprintf(stderr, "usage: bench_reader SPLIT_FOLDER [SEQUENCE_LENGTH]\n");
    return GD_USAGE;
  }
  gd_status status = measure(arguments[1], count > 2 ? atoi(arguments[2]) : 1024);
  if (status != GD_OK) fprintf(stderr, "bench_reader: %s\n", gd_error_text());
  return (int)status;
}
