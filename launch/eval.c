/* eval.c - what the tasks of gptdist-eval share. */
#include "launch/eval.h"

#include <math.h>
#include <stdio.h>

#include "launch/signals.h"
#include "shard/base/log.h"

void gd_eval_print_number(const char *before, double value) {
  if (isfinite(value))
    printf("%s%.9g", before, value);
  else
    printf("%snull", before);
}

bool gd_eval_stop_asked(void *context) {
  (void)context;
  return gd_signals_pending() != 0;
}

void gd_eval_note_cut(gd_eval *e, int64_t done, int64_t items, const char *what) {
  e->cut = done < items;
  if (e->cut)
    gd_log(GD_LOG_WARNING, "stopped by a signal: the score is that of the first %lld of %lld %s", (long long)done,
           (long long)items, what);
}

gd_status gd_eval_need_tokenizer(const gd_eval *e) {
  if (e->model.tokenizer) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s brings no tokenizer; name one with --tokenizer", e->options.checkpoint);
}
