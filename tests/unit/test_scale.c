/* A rank of a job of thousands plans alone and at once: GPT-3 175B, its layout, step, exchange of gradients and gradient norm,
 * each case in a process of its own, which says what that took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/config/config.h"
#include "shard/cost.h"
#include "shard/exchange.h"
#include "shard/memory.h"
#include "shard/norm.h"
#include "shard/plan.h"
#include "tests/sanitized.h"

enum { TENSOR = 8, MOST_KIB = 64 << 10, USUAL_VOTE = 4 << 20 };
static const double most_seconds = 2.0;

typedef struct figures {
  int32_t failed;
  double seconds;      /* of the processor: layout, step plan, exchange, norm */
  int64_t kib;         /* by which the most memory that the process ever had grew */
  double plan_seconds; /* memory of the data rank that needs most, as --dry-run prints it */
  int64_t vote_bytes, norm_bytes_sent, norm_messages;
} figures;

static double processor_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* A line of /proc/self/status in KiB. */
static int64_t status_kib(const char *name) {
  char line[256];
  long long kib = -1;
  FILE *file = fopen("/proc/self/status", "r");
  if (!file) return -1;
  while (kib < 0 && fgets(line, sizeof line, file))
    if (strncmp(line, name, strlen(name)) == 0) sscanf(line + strlen(name), " %lld", &kib);
  fclose(file);
  return kib;
}

static gd_status plan(const gd_spec *spec, int32_t ranks, int32_t rank, figures *out) {
  gd_mesh mesh;
  gd_layout layout;
  gd_plan steps;
  gd_exchange exchange;
  gd_norm_table norm;
  gd_memory memory[GD_MEMORY_IDS];
  int64_t before = status_kib("VmRSS:");
  double start = processor_seconds();
  GD_TRY(gd_mesh_init(&mesh, ranks, TENSOR, 1, 1));
  GD_TRY(gd_layout_create(spec, &mesh, rank, &layout));
  GD_TRY(gd_plan_create(&layout, &steps));
  GD_TRY(gd_exchange_create(spec, mesh.size[GD_AXIS_DATA], layout.coordinates[GD_AXIS_DATA], &exchange));
  GD_TRY(gd_norm_table_create(&layout, &norm));
  out->seconds = processor_seconds() - start;
  out->kib = status_kib("VmHWM:") - before;
  start = processor_seconds();
  gd_memory_of_largest(&layout, memory);
  out->plan_seconds = processor_seconds() - start;
  out->vote_bytes = gd_memory_group_bytes(memory, GD_MEMORY_VOTE);
  out->norm_bytes_sent = (norm.size.data_nodes + norm.size.tensor_nodes) * 8;
  out->norm_messages = (norm.size.data_messages + norm.size.tensor_messages) / 2;
  gd_norm_table_free(&norm);
  gd_exchange_free(&exchange);
  gd_plan_free(&steps);
  gd_layout_free(&layout);
  return GD_OK;
}

/* What the process that is forked for it writes into the pipe. */
static figures plan_alone(const gd_spec *spec, int32_t ranks, int32_t rank) {
  figures f = {.failed = 1};
  int ends[2], status;
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    f.failed = plan(spec, ranks, rank, &f) != GD_OK;
    if (f.failed) fprintf(stderr, "%s\n", gd_error_text());
    _exit(write(ends[1], &f, sizeof f) == sizeof f ? 0 : 1);
  }
  close(ends[1]);
  assert_int_equal(read(ends[0], &f, sizeof f), sizeof f);
  close(ends[0]);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_false(f.failed);
  return f;
}

/* most_vote: bytes; the norm may send half of it. */
static void check(int32_t ranks, const char *global, int64_t most_vote) {
  static gd_spec spec;
  const gd_config_override overrides[] = {{"--set", "parallel.tensor", "8"}, {"--set", "parallel.zero", "1"},
                                          {"--set", "parallel.blocks", "8"}, {"--set", "numerics", "invariant"},
                                          {"--set", "batch.micro", "1"},     {"--set", "batch.global", global}};
  if (gd_config_load(GD_SOURCE_DIR "/cluster-configs/models/gpt3-175b.yaml", overrides, sizeof overrides / sizeof *overrides,
                     &spec, 0) != GD_OK ||
      gd_spec_resolve(&spec, ranks) != GD_OK)
    fail_msg("%s", gd_error_text());
  const int32_t of[] = {0, ranks / 2 + 3, ranks - 1};
  for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
    figures f = plan_alone(&spec, ranks, of[i]);
    print_message(
        "rank %d of %d: %.3f s, %.1f MiB; the norm sends %.1f KiB in %d messages, the vote takes %.2f MiB; the rank "
        "that needs most: %.3f s\n",
        of[i], ranks, f.seconds, (double)f.kib / 1024, (double)f.norm_bytes_sent / 1024, (int)f.norm_messages,
        (double)f.vote_bytes / 1048576, f.plan_seconds);
    assert_true(f.seconds <= most_seconds);
    assert_true(f.plan_seconds <= most_seconds);
#ifndef SANITIZED
    assert_in_range(f.kib, 1, MOST_KIB);
#endif
    assert_true(f.norm_bytes_sent < most_vote / 2);
    assert_true(f.vote_bytes < most_vote);
  }
}

static void of_1024_ranks(void **state) {
  (void)state;
  check(1024, "1536", USUAL_VOTE);
}
static void of_8192_ranks(void **state) {
  (void)state;
  check(8192, "2048", USUAL_VOTE);
}
static void of_10240_ranks(void **state) { /* 1280 = 2^8 * 5 data ranks */
  (void)state;
  check(10240, "2560", USUAL_VOTE);
}

/* Where the number of data ranks has a large odd part, that many lists meet in one stage of the norm; planning must not go
 * through them for each data rank. */
static void of_an_odd_number_of_ranks(void **state) {
  (void)state;
  check(8 * 4095, "4095", 16 * USUAL_VOTE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(of_1024_ranks), cmocka_unit_test(of_8192_ranks),
                                     cmocka_unit_test(of_10240_ranks), cmocka_unit_test(of_an_odd_number_of_ranks)};
  return cmocka_run_group_tests(tests, 0, 0);
}
