/* train_report.c - what a training run tells: progress, metrics.jsonl, TensorBoard. */
#include "launch/train_report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "io/data/metric.h"
#include "io/metrics/metrics.h"
#include "launch/console.h"
#include "shard/cost.h"

struct gd_train_report {
  const gd_run *run;
  double peak_flops;
  bool json;
  gd_metrics *metrics;
  double recent_ms; /* running mean of a step, for the time that is left */
  int64_t unsaid;   /* lines that stdout did not take */
  bool torn;        /* the last of them was taken in part */
  int64_t checked;  /* token shards compared before the first step, here and below of this host */
  double work, ms;  /* of all steps but the first, which is slower: 1e9 operations, and the time of the job */
  int64_t steps;    /* so many */
};

/* To stdout, whole; what it does not take (a file on a full disk) is lost, and told. */
static void say(gd_train_report *report, const gd_bytes *text) {
  bool torn = report->torn;
  if (torn && write(STDOUT_FILENO, "\n", 1) == 1) torn = false;
  size_t done = 0;
  while (!torn && done < text->count) {
    ssize_t put = write(STDOUT_FILENO, text->bytes + done, text->count - done);
    if (put < 0 && errno != EINTR) break;
    if (put > 0) done += (size_t)put;
  }
  report->torn = torn || (done > 0 && done < text->count);
  if (done < text->count && !report->unsaid++)
    gd_log(GD_LOG_WARNING,
           "cannot write to the standard output: %s; the run goes on, its lines are lost until it can be written",
           strerror(errno));
  if (done < text->count || !report->unsaid) return;
  gd_log(GD_LOG_WARNING, "the standard output can be written again: %lld line%s lost", (long long)report->unsaid,
         report->unsaid == 1 ? " was" : "s were");
  report->unsaid = 0;
}

/* To metrics.jsonl and, with --json, to stdout. */
static gd_status tell(gd_train_report *report, const gd_metrics_line *line) {
  gd_bytes text = {0};
  GD_TRY(gd_metrics_write(report->metrics, line));
  if (!report->json) return GD_OK;
  gd_status status = gd_metrics_format(line, &text);
  if (status == GD_OK) say(report, &text);
  gd_bytes_free(&text);
  return status;
}

static int64_t shards_checked(const gd_run *run, gd_dataset_checked *out) {
  gd_dataset_get_checked(run->data, out);
  return out->shards;
}

/* What was compared behind the first step was not told yet. */
static void tell_checked(const gd_train_report *report) {
  gd_dataset_checked checked;
  if (shards_checked(report->run, &checked) <= report->checked) return;
  gd_log(GD_LOG_INFO,
         "data: %lld of %lld token shards were compared with their SHA-256 on this host, %.3f GB in %.2f s of its ranks",
         (long long)checked.shards, (long long)checked.of, (double)checked.bytes * 1e-9, checked.seconds);
}

gd_status gd_train_report_open(const gd_run *run, double peak_flops, bool json, gd_train_report **out) {
  gd_train_report *report = calloc(1, sizeof *report);
  if (!report) return gd_fail(GD_NO_MEMORY, "no memory for the report");
  report->run = run;
  report->peak_flops = peak_flops;
  report->json = json;
  report->checked = shards_checked(run, &(gd_dataset_checked){0});
  gd_status status = gd_metrics_open(run->spec.run.directory, run->start_step, run->spec.log.tensorboard, &report->metrics);
  if (status != GD_OK) {
    free(report);
    return status;
  }
  *out = report;
  if (run->start_step > 0)
    gd_log(GD_LOG_INFO, "resumed at step %lld of %lld (%lld tokens)", (long long)run->start_step,
           (long long)run->spec.run.steps, (long long)run->state.tokens);
  gd_metrics_line line = {.event = GD_METRICS_START, .step = run->start_step, .tokens = run->state.tokens};
  return tell(report, &line);
}

static void time_left(double seconds, char out[32]) {
  long s = (long)(seconds + 0.5);
  if (s >= 3600)
    snprintf(out, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
  else
    snprintf(out, 32, "%ldm%02lds", s / 60, s % 60);
}

static gd_status step_line(gd_train_report *report, const gd_run_event *e) {
  const gd_spec *spec = &report->run->spec;
  double mfu = report->peak_flops > 0 ? e->tflops * 1e12 / report->peak_flops : NAN;
  gd_metrics_line line = {.event = GD_METRICS_TRAIN, .step = e->step, .tokens = e->tokens, .loss = e->loss, .lr = e->lr};
  line.grad_norm = e->gradient_norm;
  line.ms = e->ms;
  line.tokens_per_s = e->tokens_per_s;
  line.tflops = e->tflops;
  line.mfu = mfu;
  line.memory_bytes = report->run->device->ops->memory_used(report->run->device);
  line.skipped = e->skipped;
  GD_TRY(tell(report, &line));
  report->recent_ms = report->recent_ms > 0 ? 0.9 * report->recent_ms + 0.1 * e->ms : e->ms;
  if (e->step > report->run->start_step + 1) {
    report->work += e->tflops * e->ms;
    report->ms += e->ms;
    report->steps++;
  }
  bool due = spec->log.interval_steps > 0 && e->step % spec->log.interval_steps == 0;
  if (!due && e->step != report->run->start_step + 1 && e->step != spec->run.steps && !e->skipped) return GD_OK;
  char text[256], left[32], share[32] = "";
  time_left(report->recent_ms / 1e3 * (double)(spec->run.steps - e->step), left);
  if (report->peak_flops > 0)
    snprintf(share, sizeof share, " (%.0f%% of peak)", 100 * mfu);
  else
    snprintf(share, sizeof share, " (MFU unknown)");
  snprintf(text, sizeof text, "step %lld/%lld  loss %.4f  lr %.3g  norm %.3g  %.0f tok/s  %.3f TFLOP/s%s  left %s%s",
           (long long)e->step, (long long)spec->run.steps, e->loss, e->lr, e->gradient_norm, e->tokens_per_s, e->tflops, share,
           left, e->skipped ? "  SKIPPED: loss or gradient norm not finite" : "");
  gd_console_progress(text);
  return GD_OK;
}

/* What the speed of the run is worth, by both counts of attention. */
static void tell_share(const gd_train_report *report) {
  const gd_spec *spec = &report->run->spec;
  const gd_layout *layout = &report->run->model.layout;
  if (report->ms <= 0) return;
  double peak = report->peak_flops, tflops = report->work / report->ms;
  double all = 1e9 * report->work / ((double)report->steps * spec->batch.global * spec->batch.sequence);
  double causal = all - gd_cost_flops_per_token(layout) + gd_cost_causal_flops_per_token(layout);
  if (peak > 0)
    gd_log(GD_LOG_INFO,
           "MFU %.3g%% of a peak of %.4g TFLOP/s (%s, %s); %.4g GFLOP a token, attention as if each saw all; with causal "
           "attention "
           "counted by the half that it needs: %.4g GFLOP, %.3g%%",
           100e12 * tflops / peak, peak / 1e12, gd_dtype_name(spec->precision.dtype),
           report->run->device->model[0] ? "the vendor's figure, dense" : "measured", all / 1e9, causal / 1e9,
           100e12 * tflops * causal / all / peak);
  else
    gd_log(GD_LOG_INFO, "MFU unknown: no peak is known for %s in %s", report->run->device->description,
           gd_dtype_name(spec->precision.dtype));
}

static gd_status profile_line(gd_train_report *report, const gd_run_event *e) {
  const gd_run *run = report->run;
  gd_bytes fields = {0};
  double peak = report->peak_flops / gd_session_ranks(run->session);
  gd_status status = gd_train_profile_tell(run->profile, run->device, peak, run->spec.run.threads, &fields);
  gd_metrics_line line = {.event = GD_METRICS_PROFILE, .step = e->step, .tokens = e->tokens, .fields = fields.bytes};
  if (status == GD_OK && fields.count) status = tell(report, &line);
  gd_bytes_free(&fields);
  return status;
}

void gd_train_report_early(const gd_run *run, char out[GD_EARLY_BYTES]) {
  const gd_run_state *s = &run->state;
  const char *metric = gd_metric_look((gd_metric)s->metric)->name;
  int used =
      snprintf(out, GD_EARLY_BYTES,
               "stopped early at step %lld of %lld: %lld validation%s in a row without a gain in %s (validation.patience)",
               (long long)s->step, (long long)run->spec.run.steps, (long long)s->wait, s->wait == 1 ? "" : "s", metric);
  if (s->best_step >= 0)
    snprintf(out + used, GD_EARLY_BYTES - (size_t)used, "; the best, %.6g, is step %lld: %s@best", s->best_validation,
             (long long)s->best_step, run->spec.run.directory);
}

static gd_status early_line(gd_train_report *report, const gd_run_event *e) {
  const gd_run_state *s = &report->run->state;
  char text[GD_EARLY_BYTES];
  gd_bytes fields = {0};
  gd_train_report_early(report->run, text);
  gd_log(GD_LOG_INFO, "%s", text);
  gd_status status = gd_bytes_printf(&fields, ", \"metric\": \"%s\", \"waited\": %lld, \"best_step\": %lld",
                                     gd_metric_look((gd_metric)s->metric)->name, (long long)s->wait, (long long)s->best_step);
  if (status == GD_OK && s->best_step >= 0) status = gd_bytes_printf(&fields, ", \"best\": %.9g", s->best_validation);
  gd_metrics_line line = {.event = GD_METRICS_STOPPED, .step = e->step, .tokens = e->tokens, .fields = fields.bytes};
  if (status == GD_OK) status = tell(report, &line);
  gd_bytes_free(&fields);
  return status;
}

/* Of a classifier, accuracy and macro F1 stand for its scores. */
static void tell_validation(const gd_run_event *e) {
  static const gd_metric told[] = {GD_METRIC_ACCURACY, GD_METRIC_MACRO_F1};
  char scores[96] = "";
  size_t used = 0;
  for (size_t i = 0; i < sizeof told / sizeof *told; i++)
    if (!isnan(e->scores[told[i]]))
      used +=
          (size_t)snprintf(scores + used, sizeof scores - used, "  %s %.4f", gd_metric_look(told[i])->name, e->scores[told[i]]);
  gd_log(GD_LOG_INFO, "step %lld  validation loss %.4f%s  (%.1f s)%s", (long long)e->step, e->loss, scores, e->ms / 1e3,
         e->best ? "  best so far" : "");
}

gd_status gd_train_report_event(gd_train_report *report, const gd_run_event *e) {
  gd_metrics_line line = {.step = e->step, .tokens = e->tokens, .loss = e->loss, .ms = e->ms};
  switch (e->kind) {
    case GD_EVENT_STEP: return step_line(report, e);
    case GD_EVENT_VALIDATION:
      line.event = GD_METRICS_VALIDATION;
      line.scores = e->scores;
      tell_validation(e);
      if (e->lr_cut) gd_log(GD_LOG_INFO, "step %lld  learning rate cut to %.3g", (long long)e->step, e->lr);
      return tell(report, &line);
    case GD_EVENT_SAVING: line.event = GD_METRICS_CHECKPOINT; return tell(report, &line);
    case GD_EVENT_SAVED: gd_log(GD_LOG_INFO, "step %lld  checkpoint saved", (long long)e->step); return GD_OK;
    case GD_EVENT_END:
      line.event = GD_METRICS_END;
      gd_console_finish_progress();
      tell_share(report);
      if (e->stop == GD_STOP_EARLY)
        GD_TRY(early_line(report, e));
      else if (e->stop == GD_STOP_DONE)
        gd_log(GD_LOG_INFO, "done: %lld steps, %lld tokens; run directory %s", (long long)e->step, (long long)e->tokens,
               report->run->spec.run.directory);
      else
        gd_log(GD_LOG_INFO, "stopped at step %lld of %lld (%s), checkpointed; the same command goes on from here",
               (long long)e->step, (long long)report->run->spec.run.steps, e->stop == GD_STOP_TIME ? "--max-time" : "signal");
      tell_checked(report);
      if (report->run->profile) GD_TRY(profile_line(report, e));
      return tell(report, &line);
  }
  return GD_OK;
}

void gd_train_report_close(gd_train_report *report) {
  gd_metrics_close(report->metrics);
  free(report);
}
