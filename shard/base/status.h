/* status.h - how every fallible function of gptdist reports a fault.
 *
 * A function that can fail returns gd_status and puts its results into its last parameters. The text is written once,
 * where the fault happens, into a record of the calling thread; callers pass the status on (GD_TRY) and may add one line
 * of context (gd_error_context). Nothing below launch/ prints, exits or aborts. The values are the exit codes of the
 * programs, so the code a user sees is the code that was raised.
 */
#ifndef GD_SHARD_BASE_STATUS_H
#define GD_SHARD_BASE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum gd_status {
  GD_OK = 0,
  GD_NO = 1,             /* a check ran and the answer is no */
  GD_USAGE = 64,         /* command line or configuration */
  GD_BAD_DATA = 65,      /* corpus, shard, checkpoint or model file */
  GD_BUG = 70,           /* our own bug */
  GD_NO_MEMORY = 71,     /* out of memory, or the device is lost */
  GD_IO = 74,            /* the operating system refused a read, a write, a lock */
  GD_REQUEUE = 75,       /* stopped on request, checkpointed, start again */
  GD_RANK_FAILED = 76,   /* a rank or a collective failed */
  GD_LOSS_DIVERGED = 77, /* the loss went bad and stayed bad */
} gd_status;

/* Put before every declaration that returns gd_status (a test reads the headers for it). */
#define GD_CHECKED __attribute__((warn_unused_result))

/* Passes a fault on to the caller. */
#define GD_TRY(call)                                    \
  do {                                                  \
    gd_status gd_try_status_ = (call);                  \
    if (gd_try_status_ != GD_OK) return gd_try_status_; \
  } while (0)

/* Goes to a clean-up label; `status` must be a gd_status variable. */
#define GD_TRY_GOTO(status, label, call) \
  do {                                   \
    (status) = (call);                   \
    if ((status) != GD_OK) goto label;   \
  } while (0)

/* Writes the thread's error record and returns `code`. gd_fail notes file:line and function beside the text (for faults of
 * machine, files and our own code: the log file has them); gd_fail_user does not (for a user's mistake, whose text names the
 * user's own file, line and key). */
#define gd_fail(code, ...) gd_error_write((code), __FILE__, __LINE__, __func__, __VA_ARGS__)
#define gd_fail_user(code, ...) gd_error_write((code), 0, 0, 0, __VA_ARGS__)

gd_status gd_error_write(gd_status code, const char *file, int line, const char *function, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Adds one line of context below the text of the calling thread's record: returns `code` unchanged. */
gd_status gd_error_context(gd_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The calling thread's last text ("" when none). Valid until the thread's next fault. */
const char *gd_error_text(void);
/* Where it was raised, for the log file: "io/base/files.c:55 gd_file_read, rank 2 on node7, step 400"; "" after gd_fail_user.
 */
const char *gd_error_place(void);
/* "rank 2 on node7: " where another rank than 0 raised it, else "": what a person reads before the text. */
const char *gd_error_whose(void);

/* Forgets the calling thread's text (after a fault that was dealt with). */
void gd_error_clear(void);

/* A fault that crosses threads or ranks: the worker copies its record out, who waits for it raises it again. */
typedef struct gd_error {
  gd_status code;
  char whose[160], place[352]; /* as gd_error_whose and gd_error_place give them */
  char text[2048];             /* last: on the wire it ends with its zero */
} gd_error;
void gd_error_take(gd_status code, gd_error *out);
gd_status gd_error_raise(const gd_error *error);

/* Where this process is: part of a record's place. Rank < 0: not yet known. Set once by the session. */
void gd_error_set_place(int rank, const char *host);
/* The training step under way, -1 for none; set by the step loop. */
void gd_error_set_step(int64_t step);

/* One word for a status ("ok", "usage", "bad data", ...). Static text. */
const char *gd_status_name(gd_status status);

#endif
