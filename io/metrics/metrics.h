/* metrics.h - RUN/metrics.jsonl and RUN/tensorboard/: one line, one set of scalars an event. Rank 0 only; all calls are local.
 *
 * A line is {"event": ..., "step": ..., "tokens": ..., "loss": ..., "lr": ..., "grad_norm": ..., "ms": ..., "tokens_per_s":
 * ..., "tflops": ..., "mfu": ..., "memory_bytes": ..., "skipped": ...}. What an event has no use for is left out, a value that
 * is not finite is null. Floats have 9 significant digits, so equal text of a float32 is equal bits. The fields up to grad_norm
 * are deterministic and tests compare them; the clock has a hand in the rest (but skipped). */
#ifndef GD_IO_METRICS_METRICS_H
#define GD_IO_METRICS_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/base/files.h"

typedef enum gd_metrics_event {
  GD_METRICS_START,      /* step tokens */
  GD_METRICS_TRAIN,      /* all fields */
  GD_METRICS_VALIDATION, /* step tokens loss ms, and `scores` */
  GD_METRICS_CHECKPOINT, /* step tokens ms */
  GD_METRICS_PROFILE,    /* step tokens, and `fields` */
  GD_METRICS_END,        /* step tokens */
  GD_METRICS_STOPPED,    /* step tokens, and `fields`: the run stopped early */
  GD_METRICS_LOST,       /* step tokens lines: so many lines before this one are not in the file */
} gd_metrics_event;

typedef struct gd_metrics_line {
  gd_metrics_event event;
  int64_t step, tokens;
  double loss, lr, grad_norm;
  const double
      *scores; /* validation: [GD_METRICS] by gd_metric, what is NaN is not there, and the loss stands above; NULL: none */
  double ms, tokens_per_s, tflops;
  double mfu; /* share of the measured peak, 0 to 1; not finite: unknown */
  int64_t memory_bytes;
  bool skipped;
  int64_t lines;
  const char *fields; /* profile, stopped: more of them, as JSON text: ", \"steps\": 3, ..." */
} gd_metrics_line;

typedef struct gd_metrics gd_metrics;

/* Cuts metrics.jsonl back to what a run that resumes at `step` has behind it (0: a new run, the file is emptied): lines of
 * later steps, the validation of that very step (the resumed run repeats it), "profile", "stopped" and "end" lines and a
 * half-written last line go, by rename, so that a kill leaves the old file or the new one; a damaged line is told, a warning.
 * Starts a new TensorBoard file in run_directory/tensorboard where wanted; its first record tells TensorBoard to drop later
 * steps of older files. What the disk refuses of it is a warning, and is tried again with a later line, a second to a minute
 * later: the lines in between are lost. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_metrics_open(const char *run_directory, int64_t step, bool tensorboard, gd_metrics **out);
/* Appends the line with its newline. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_metrics_format(const gd_metrics_line *line, gd_bytes *out);
/* The line is with the system when the call returns. One that the disk refuses is lost: no fault, but a warning with the first,
 * and, when lines go in again, a warning and a "lost" line with their number. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_metrics_write(gd_metrics *metrics, const gd_metrics_line *line);
void gd_metrics_close(gd_metrics *metrics);

#endif
