/* Damage to any file of a dataset is found and the file is named, in trials each in a process of its own: one bit turned, a
 * file cut short, two files that changed places. A trial opens and reads the whole dataset with the calls that training makes.
 *   test_data_damage [FLIPS TRUNCATIONS SWAPS [SEED]]      in tests/run: 2000 100 40; the long form: 100000 1000 100
 * The last line is JSON: trials, failures, and the bound that the share of failures does not exceed with 95 % confidence. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/data/dataset.h"
#include "io/data/order.h"
#include "io/data/prepare.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/train.h"
#include "shard/base/rng.h"

enum { MOST_FILES = 64, T = 16, TIME_LIMIT_S = 20 };

/* What a trial may come to; also the exit codes of its process, but CRASHED. */
typedef enum outcome { NAMED, SILENT, UNNAMED, WRONG_CODE, CRASHED, OUTCOMES } outcome;
static const char *const outcome_names[OUTCOMES] = {"named", "silent", "unnamed", "wrong_code", "crashed"};

typedef struct file {
  char path[GD_PATH_BYTES];
  char name[80]; /* with its folder, as faults must name it: "train/00000.h5" */
  char set[GD_PATH_BYTES];
  int64_t bytes;
} file;

static char folder[] = "/tmp/gptdist-damage-XXXXXX";
static file files[MOST_FILES];
static int file_count, printed;
static int64_t outcomes[OUTCOMES];
static gd_rng rng;
static int64_t draws;

static void must(gd_status status) {
  if (status == GD_OK) return;
  printf("FAILED: %s\n", gd_error_text());
  exit(1);
}

static void must_system(bool good, const char *what) {
  if (good) return;
  printf("FAILED: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t below(int64_t count) {
  return gd_order_uniform(&rng, count, draws++);
}

/* ---- the datasets ---- */

static void join(char *out, const char *parent, const char *name) {
  must(gd_path_join(out, GD_PATH_BYTES, parent, name));
}

static void add_files(const char *set, const char *part) {
  char path[GD_PATH_BYTES];
  join(path, set, part);
  DIR *entries = opendir(path);
  must_system(entries != NULL, path);
  for (struct dirent *entry; (entry = readdir(entries));) {
    if (entry->d_name[0] == '.') continue;
    struct stat about;
    must_system(file_count < MOST_FILES, "too many files");
    file *f = &files[file_count++];
    join(f->path, path, entry->d_name);
    must_system(stat(f->path, &about) == 0, f->path);
    f->bytes = about.st_size;
    snprintf(f->name, sizeof f->name, "%.20s/%.50s", part, entry->d_name);
    memcpy(f->set, set, sizeof f->set);
  }
  closedir(entries);
}

static void make_set(gd_session *session, const char *name, const char *tokenizer, const char *text, bool old_name) {
  char set[GD_PATH_BYTES], from[GD_PATH_BYTES], to[GD_PATH_BYTES];
  gd_prepare_report report;
  const char *inputs[] = {text};
  join(set, folder, name);
  const gd_prepare_options options = {.inputs = inputs,
                                      .input_count = 1,
                                      .tokenizer = tokenizer,
                                      .output = set,
                                      .validation_fraction = 0.2,
                                      .shard_tokens = 500};
  must(gd_dataset_prepare(session, &options, &report));
  if (old_name) {
    join(from, set, "tokenizer/gptdist-tokenizer.json");
    join(to, set, "tokenizer/tokenizer.json");
    must_system(rename(from, to) == 0, to);
  }
  add_files(set, "train");
  add_files(set, "validation");
  add_files(set, "tokenizer");
}

/* Three datasets: bytes; characters, with the description's former name; byte-pair encoding. */
static void make_sets(void) {
  char text[GD_PATH_BYTES], bpe[GD_PATH_BYTES];
  gd_session *session;
  gd_bytes bytes = {0};
  must_system(mkdtemp(folder) != NULL, folder);
  must(gd_session_open(&session));
  for (int i = 0; i < 40; i++)
    must(gd_bytes_printf(&bytes, "Text %d has %d words and words\n%s", i, i * 7919 % 101, i % 4 ? "" : "<|endoftext|>\n"));
  join(text, folder, "text.txt");
  join(bpe, folder, "bpe");
  must(gd_file_write(text, bytes.bytes, bytes.count));
  const char *inputs[] = {text};
  const gd_tokenizer_train_options options = {.inputs = inputs, .input_count = 1, .output = bpe, .vocabulary = 270};
  gd_tokenizer_train_report report;
  must(gd_tokenizer_train(&options, &report));
  make_set(session, "a", "bytes", text, false);
  make_set(session, "b", "chars", text, true);
  make_set(session, "c", bpe, text, false);
  gd_bytes_free(&bytes);
  gd_session_close(session);
}

/* ---- a trial ---- */

static gd_status read_all(gd_dataset *dataset) {
  gd_batch batch = {0};
  gd_status status = gd_batch_open(1, T, &batch);
  for (int64_t i = 0; status == GD_OK && i < gd_dataset_windows(dataset); i++)
    status = gd_dataset_read(dataset, i, 1, &batch, 0);
  gd_batch_close(&batch);
  return status;
}

/* As a training run does it. */
static gd_status use(const char *set) {
  static gd_data_spec data;
  gd_dataset *train = NULL, *validation = NULL;
  data = (gd_data_spec){.sources = 1, .weight = {1}, .mask_documents = true};
  memcpy(data.path[0], set, sizeof data.path[0]);
  gd_status status = gd_dataset_open(&data, T, GD_ORDER_SHUFFLED, 1, true, &train);
  if (status == GD_OK) status = gd_dataset_open_validation(&data, T, true, &validation);
  if (status == GD_OK && !validation) status = gd_fail(GD_BUG, "no validation");
  if (status == GD_OK) status = gd_tokenizer_check(gd_dataset_tokenizer_folder(train), gd_dataset_tokenizer_digest(train));
  if (status == GD_OK) status = read_all(train);
  if (status == GD_OK) status = read_all(validation);
  gd_dataset_close(train);
  gd_dataset_close(validation);
  return status;
}

/* One of the two names (b may be NULL) stands in the fault. */
static outcome judge(const file *a, const file *b) {
  gd_status status = use(a->set);
  if (status == GD_OK) return SILENT;
  bool named = strstr(gd_error_text(), a->name) || (b && strstr(gd_error_text(), b->name));
  if (!named || status != GD_BAD_DATA) printf("  said %d: %s\n", (int)status, gd_error_text());
  return !named ? UNNAMED : status == GD_BAD_DATA ? NAMED : WRONG_CODE;
}

static void trial(const char *what, const file *a, const file *b) {
  int ended;
  fflush(stdout);
  pid_t child = fork();
  must_system(child >= 0, "fork");
  if (child == 0) {
    alarm(TIME_LIMIT_S); /* a hang is a crash */
    int code = (int)judge(a, b);
    fflush(stdout);
    _exit(code);
  }
  must_system(waitpid(child, &ended, 0) == child, "waitpid");
  outcome found = WIFEXITED(ended) && WEXITSTATUS(ended) < CRASHED ? (outcome)WEXITSTATUS(ended) : CRASHED;
  outcomes[found]++;
  if (found != NAMED && printed++ < 20)
    printf("FAILED: %s, %s%s%s: %s\n", what, a->path, b ? " and " : "", b ? b->path : "", outcome_names[found]);
}

static void turn(const file *f, int64_t bit) {
  uint8_t byte = 0;
  int descriptor = open(f->path, O_RDWR | O_CLOEXEC);
  must_system(descriptor >= 0 && pread(descriptor, &byte, 1, bit / 8) == 1, f->path);
  byte ^= (uint8_t)(1u << (bit % 8));
  must_system(pwrite(descriptor, &byte, 1, bit / 8) == 1 && close(descriptor) == 0, f->path);
}

static void flip(void) {
  char what[64];
  const file *f = &files[below(file_count)]; /* each file as often, so that small ones have all their bits turned */
  int64_t bit = below(8 * f->bytes);
  snprintf(what, sizeof what, "bit %lld", (long long)bit);
  turn(f, bit);
  trial(what, f, NULL);
  turn(f, bit);
}

static void cut(void) {
  char what[64];
  gd_bytes bytes = {0};
  const file *f = &files[below(file_count)];
  int64_t length = below(f->bytes);
  must(gd_file_read(f->path, 1 << 26, &bytes));
  must_system(truncate(f->path, length) == 0, f->path);
  snprintf(what, sizeof what, "cut to %lld bytes", (long long)length);
  trial(what, f, NULL);
  must(gd_file_write(f->path, bytes.bytes, bytes.count));
  gd_bytes_free(&bytes);
}

static bool same_bytes(const file *a, const file *b) {
  gd_bytes x = {0}, y = {0};
  must(gd_file_read(a->path, 1 << 26, &x));
  must(gd_file_read(b->path, 1 << 26, &y));
  bool same = x.count == y.count && memcmp(x.bytes, y.bytes, x.count) == 0;
  gd_bytes_free(&x);
  gd_bytes_free(&y);
  return same;
}

static void swap(void) {
  const file *a, *b;
  do {
    a = &files[below(file_count)];
    b = &files[below(file_count)];
  } while (strcmp(a->set, b->set) != 0 || same_bytes(a, b));
  must_system(renameat2(AT_FDCWD, a->path, AT_FDCWD, b->path, RENAME_EXCHANGE) == 0, a->path);
  trial("swapped", a, b);
  must_system(renameat2(AT_FDCWD, a->path, AT_FDCWD, b->path, RENAME_EXCHANGE) == 0, a->path);
}

/* ---- the result ---- */

/* The share of failures at which so few of `trials` or fewer would be seen with a probability of 5 %. */
static double upper_bound(int64_t failures, int64_t trials) {
  double low = 0, high = 1;
  for (int i = 0; i < 100; i++) {
    double p = (low + high) / 2, sum = 0;
    for (int64_t k = 0; k <= failures; k++)
      sum += exp(lgamma((double)trials + 1) - lgamma((double)k + 1) - lgamma((double)(trials - k) + 1) + (double)k * log(p) +
                 (double)(trials - k) * log1p(-p));
    if (sum > 0.05)
      low = p;
    else
      high = p;
  }
  return high;
}

int main(int count, char **arguments) {
  long flips = count > 3 ? atol(arguments[1]) : 2000, cuts = count > 3 ? atol(arguments[2]) : 100;
  long swaps = count > 3 ? atol(arguments[3]) : 40, seed = count > 4 ? atol(arguments[4]) : 1;
  double start = gd_machine_seconds();
  rng = gd_rng_make((uint64_t)seed, GD_RNG_DATA, 0, 0, 0);
  make_sets();
  for (int i = 0; i < file_count; i++) /* whole, every set is read without a word */
    must(use(files[i].set));
  for (long i = 0; i < flips; i++) flip();
  for (long i = 0; i < cuts; i++) cut();
  for (long i = 0; i < swaps; i++) swap();
  for (int i = 0; i < file_count; i++) must(use(files[i].set));
  int64_t trials = flips + cuts + swaps, failures = trials - outcomes[NAMED];
  printf("{\"test\": \"data_damage\", \"seed\": %ld, \"files\": %d, \"flips\": %ld, \"truncations\": %ld, \"swaps\": %ld, ",
         seed, file_count, flips, cuts, swaps);
  for (int i = 0; i < OUTCOMES; i++) printf("\"%s\": %lld, ", outcome_names[i], (long long)outcomes[i]);
  printf("\"trials\": %lld, \"failures\": %lld, \"bound95\": %.3g, \"seconds\": %.1f}\n", (long long)trials,
         (long long)failures, upper_bound(failures, trials), gd_machine_seconds() - start);
  must(gd_folder_remove(folder));
  return failures > 0;
}
