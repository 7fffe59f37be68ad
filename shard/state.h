/* state.h - the progress of a run besides its tensors: what a manifest carries so that a resume continues bit for bit. */
#ifndef GD_SHARD_STATE_H
#define GD_SHARD_STATE_H

#include <stdint.h>

typedef struct gd_run_state {
  int64_t step;           /* optimizer steps attempted */
  int64_t tokens;         /* target tokens seen */
  int64_t draws;          /* data samples drawn: step * global batch; the data cursor */
  int64_t applied_steps;  /* steps that counted (Adam's t) */
  int64_t bad_steps;      /* consecutive skipped steps */
  double best_validation; /* lowest validation loss so far; +infinity before the first */
  int64_t best_step;      /* -1 before the first */
} gd_run_state;

#endif
