/* fuzz.h - what the fuzzers of tests/fuzz/targets share. A target is one function of any bytes, under libFuzzer's name, that
 * reads them as one kind of file and aborts where a promise is broken: a crash, a status that is no verdict on the file, what
 * was read and written again is something else. tests/fuzz/run hands it bytes that libFuzzer finds, tests/fuzz/test_fuzz.c
 * replays seeds and what was found. */
#ifndef GD_TESTS_FUZZ_FUZZ_H
#define GD_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"
#include "shard/spec.h"

/* The one entry point of a target; 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* No allocation of ours may be larger than this for the small inputs of fuzzers, whatever they say of themselves. */
enum { FUZZ_MEMORY_MIB = 512 };

/* An input of several files: parts with a line "%%" between them. Fills parts[most], the later ones empty; the last one holds
 * all that is left. */
typedef struct fuzz_part {
  const char *bytes;
  size_t count;
} fuzz_part;
int fuzz_parts(const uint8_t *data, size_t size, fuzz_part *parts, int most);

/* The folder of this process, in memory where the system has such a one; removed when the process ends by itself. */
const char *fuzz_folder(void);
/* Writes FOLDER/NAME; its path. */
void fuzz_write(const char *name, const void *bytes, size_t count, char path[GD_PATH_BYTES]);

/* True: GD_OK. False: the bytes were refused with a text, by `refusal`. Anything else (70, 71, 74, no text) aborts. */
bool fuzz_accepted(gd_status status, gd_status refusal);
extern long fuzz_accepts; /* how often it was true in this process */
extern bool fuzz_tells;   /* refusals are written to stderr */
/* Aborts with `what` where it does not hold. */
void fuzz_check(bool holds, const char *what);
/* Aborts where our own preparations fail. */
void fuzz_must(gd_status status);

/* Hands the seeds of a target (its name: that of its file) to `take`: small files as our own writers make them. */
typedef void fuzz_take(void *context, const void *bytes, size_t count);
void fuzz_seeds(const char *target, fuzz_take *take, void *context);

#endif
