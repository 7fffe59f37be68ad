/* fuzz.c - parts of an input, files of this process, verdicts. */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"

long fuzz_accepts;
bool fuzz_tells;
static char folder[64];
static pid_t owner;

int fuzz_parts(const uint8_t *data, size_t size, fuzz_part *parts, int most) {
  static const char mark[] = "\n%%\n";
  const char *at = (const char *)data;
  int count = 0;
  for (int i = 0; i < most; i++) parts[i] = (fuzz_part){"", 0};
  while (count < most) {
    const char *end = size && count < most - 1 ? memmem(at, size, mark, sizeof mark - 1) : NULL;
    parts[count++] = (fuzz_part){size ? at : "", end ? (size_t)(end - at) : size};
    if (!end) break;
    size -= (size_t)(end - at) + sizeof mark - 1;
    at = end + sizeof mark - 1;
  }
  return count;
}

static void remove_folder(void) {
  if (getpid() == owner && gd_folder_remove(folder) != GD_OK) fprintf(stderr, "%s\n", gd_error_text());
}

const char *fuzz_folder(void) {
  if (owner == getpid()) return folder;
  const char *parent = getenv("TMPDIR");
  if (!parent || strlen(parent) > 32) parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(folder, sizeof folder, "%s/gptdist-fuzz-XXXXXX", parent);
  if (!mkdtemp(folder)) fuzz_check(false, "no folder to work in");
  owner = getpid();
  atexit(remove_folder);
  return folder;
}

void fuzz_write(const char *name, const void *bytes, size_t count, char path[GD_PATH_BYTES]) {
  fuzz_must(gd_path_join(path, GD_PATH_BYTES, fuzz_folder(), name));
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  fuzz_check(file >= 0 && write(file, bytes, count) == (ssize_t)count && close(file) == 0, "cannot write a file of the fuzzer");
}

void fuzz_check(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "broken promise: %s (last text: %s)\n", what, gd_error_text());
  abort();
}

bool fuzz_accepted(gd_status status, gd_status refusal) {
  fuzz_accepts += status == GD_OK;
  if (status == GD_OK) return true;
  if (status != refusal) fprintf(stderr, "status %d, expected 0 or %d\n", status, refusal);
  fuzz_check(status == refusal, "the status is no verdict on the file");
  fuzz_check(gd_error_text()[0] != 0, "refused without a text");
  if (fuzz_tells) fprintf(stderr, "refused: %s\n", gd_error_text());
  gd_error_clear();
  return false;
}

void fuzz_must(gd_status status) {
  fuzz_check(status == GD_OK, "the fuzzer's own work");
}
