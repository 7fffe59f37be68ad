/* Readers of untrusted files keep the promises of tests/fuzz/targets on seeds, on the files that once broke them
 * (tests/fuzz/found/TARGET/) and on mutations of both, from a seed: no crash, hang, leak, nor too large an allocation, and
 * every verdict is a documented one. test_fuzz [TARGET [MUTATIONS]]   all targets, 8000 mutations each test_fuzz TARGET FILE
 * that one file test_fuzz --seeds FOLDER         writes the seeds and the files that were found into FOLDER/TARGET/, for
 * tests/fuzz/run An input that fails is kept in BUILD/tests/fuzz-failures. The last line is JSON: trials, failures, and the
 * bound that the share of failures does not exceed with 95 % confidence. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mutate.h"
#include "tests/sanitized.h"

enum { MOST_INPUTS = 256, INPUT_BYTES = 1 << 16, MUTATIONS = 8000, TRIAL_SECONDS = 20, MOST_FAILURES = 20 };

/* FUZZ_TARGETS: TARGET(run_file) TARGET(manifest) ..., made by tests/CMakeLists.txt from the files in targets/. There each is
 * compiled with its own name in place of libFuzzer's. */
#define TARGET(name) int fuzz_##name(const uint8_t *data, size_t size);
FUZZ_TARGETS
#undef TARGET
#define TARGET(name) {#name, fuzz_##name},
static const struct target {
  const char *name;
  int (*test)(const uint8_t *data, size_t size);
} targets[] = {FUZZ_TARGETS};
enum { TARGETS = sizeof targets / sizeof *targets };

#ifdef SANITIZED
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
  return "allocator_may_return_null=1:max_allocation_size_mb=512"; /* FUZZ_MEMORY_MIB: the request fails, and the trial with it
                                                                    */
}
#endif

static gd_bytes inputs[MOST_INPUTS];
static int input_count, seed_count;

/* What a child is at: lies in shared memory, and outlives it. */
static struct flight {
  long trial;
  size_t count;
  char bytes[INPUT_BYTES];
} * flight;

/* ---- inputs ---- */

static void take(void *context, const void *bytes, size_t count) {
  (void)context;
  fuzz_check(input_count < MOST_INPUTS && count <= INPUT_BYTES, "too many or too long inputs");
  fuzz_must(gd_bytes_append(&inputs[input_count++], bytes, count));
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static void collect(const char *target) {
  char path[GD_PATH_BYTES];
  struct dirent **names = NULL;
  while (input_count) gd_bytes_free(&inputs[--input_count]);
  fuzz_seeds(target, take, NULL);
  seed_count = input_count;
  fuzz_must(gd_path_join(path, sizeof path, GD_SOURCE_DIR "/tests/fuzz/found", target));
  int found = scandir(path, &names, NULL, by_name); /* no folder: nothing was found */
  for (int i = 0; i < found; i++) {
    if (names[i]->d_name[0] != '.') {
      char file[2 * GD_PATH_BYTES];
      fuzz_must(gd_path_join(file, sizeof file, path, names[i]->d_name));
      fuzz_check(input_count < MOST_INPUTS, "too many inputs");
      fuzz_must(gd_file_read(file, INPUT_BYTES, &inputs[input_count++]));
    }
    free(names[i]);
  }
  free(names);
}

static int write_seeds(const char *folder) {
  char path[GD_PATH_BYTES], file[2 * GD_PATH_BYTES], name[32];
  for (int t = 0; t < TARGETS; t++) {
    collect(targets[t].name);
    fuzz_must(gd_path_join(path, sizeof path, folder, targets[t].name));
    fuzz_must(gd_folder_make(path));
    for (int i = 0; i < input_count; i++) {
      snprintf(name, sizeof name, "seed-%03d", i);
      fuzz_must(gd_path_join(file, sizeof file, path, name));
      fuzz_must(gd_file_write(file, inputs[i].bytes, inputs[i].count));
    }
  }
  return 0;
}

/* ---- trials ---- */

/* Trial i: input i, then mutation i of input i % input_count. */
static void prepare(int target, long trial) {
  const gd_bytes *from = &inputs[trial % input_count];
  flight->trial = trial;
  flight->count = from->count;
  if (trial < input_count) {
    if (from->count) memcpy(flight->bytes, from->bytes, from->count);
    return;
  }
  const gd_bytes *other = &inputs[(trial / input_count) % input_count];
  fuzz_mutate((uint64_t)target << 32 | (uint64_t)trial, from->bytes, from->count, other->bytes, other->count, flight->bytes,
              INPUT_BYTES, &flight->count);
}

/* In a copy of the exact size, so that a read behind it is seen. */
static void try_one(int target, const char *bytes, size_t count) {
  uint8_t *copy = malloc(count ? count : 1);
  if (!copy) abort();
  if (count) memcpy(copy, bytes, count);
  alarm(TRIAL_SECONDS);
  targets[target].test(copy, count);
  alarm(0);
  free(copy);
}

/* The address space of this process may grow by FUZZ_MEMORY_MIB. */
static void limit_memory(void) {
#ifndef SANITIZED
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld", &pages) != 1) abort();
  fclose(file);
  rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)FUZZ_MEMORY_MIB << 20);
  if (setrlimit(RLIMIT_AS, &(struct rlimit){most, most})) abort();
#endif
}

static void child(int target, long first, long trials) {
  limit_memory();
  for (long trial = first; trial < trials; trial++) {
    prepare(target, trial);
    long before = fuzz_accepts;
    try_one(target, flight->bytes, flight->count);
    if (trial < seed_count) fuzz_check(fuzz_accepts > before, "a seed is refused");
  }
  flight->trial = trials;
  exit(0); /* looks for leaks, removes its folder */
}

static void keep(int target) {
  char path[GD_PATH_BYTES];
  fuzz_must(gd_folder_make(GD_BUILD_DIR "/tests/fuzz-failures"));
  snprintf(path, sizeof path, "%s/tests/fuzz-failures/%s-%ld", GD_BUILD_DIR, targets[target].name, flight->trial);
  fuzz_must(gd_file_write(path, flight->bytes, flight->count));
  printf("FAILED: %s, trial %ld: %s\n", targets[target].name, flight->trial, path);
}

static long replay(int target, long mutations, long *trials) {
  long failures = 0, next = 0;
  collect(targets[target].name);
  fuzz_check(input_count > 0, "a target without inputs");
  *trials = mutations + input_count;
  while (next < *trials && failures < MOST_FAILURES) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) abort();
    if (pid == 0) child(target, next, *trials);
    int state = 0;
    if (waitpid(pid, &state, 0) != pid) abort();
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) break;
    failures++;
    next = flight->trial + 1;
    if (flight->trial < *trials)
      keep(target);
    else
      printf("FAILED: %s: memory was not given back\n", targets[target].name);
  }
  return failures;
}

/* The share of failures at which so few of `trials` or fewer would be seen with a probability of 5 %. */
static double upper_bound(long failures, long trials) {
  double low = 0, high = 1;
  for (int i = 0; i < 60; i++) {
    double p = (low + high) / 2, sum = 0;
    for (long k = 0; k <= failures; k++)
      sum += exp(lgamma((double)trials + 1) - lgamma((double)k + 1) - lgamma((double)(trials - k) + 1) + (double)k * log(p) +
                 (double)(trials - k) * log1p(-p));
    *(sum > 0.05 ? &low : &high) = p;
  }
  return high;
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "--seeds") == 0) return write_seeds(arguments[2]);
  char *end = NULL;
  long mutations = count > 2 ? strtol(arguments[2], &end, 10) : MUTATIONS, trials = 0, failures = 0;
  bool known = false;
  flight = mmap(NULL, sizeof *flight, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (flight == MAP_FAILED) abort();
  for (int t = 0; t < TARGETS; t++) {
    if (count > 1 && strcmp(arguments[1], targets[t].name) != 0) continue;
    known = true;
    if (end && *end) {
      gd_bytes file = {0};
      fuzz_must(gd_file_read(arguments[2], (size_t)1 << 30, &file));
      fuzz_tells = true;
      limit_memory();
      try_one(t, file.bytes, file.count);
      gd_bytes_free(&file);
      return 0;
    }
    long tried;
    double start = gd_machine_seconds();
    failures += replay(t, mutations, &tried);
    trials += tried;
    printf("%-20s %6ld trials  %.1f s\n", targets[t].name, tried, gd_machine_seconds() - start);
  }
  while (input_count) gd_bytes_free(&inputs[--input_count]);
  if (!known) printf("FAILED: no such target\n");
  printf("{\"test\": \"fuzz\", \"trials\": %ld, \"failures\": %ld, \"bound95\": %.3g}\n", trials, failures,
         upper_bound(failures, trials));
  return failures > 0 || !known;
}
