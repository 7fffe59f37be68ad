/* metrics.c - metrics.jsonl: a line an event. */
#include "io/metrics/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/append.h"
#include "io/base/json.h"
#include "io/data/metric.h"
#include "io/metrics/tensorboard.h"
#include "shard/base/log.h"
#include "shard/spec.h"

enum { FILE_LIMIT = 1 << 30, MOST_SCALARS = 8, RETRY_MS = 1000, LATEST_RETRY_MS = 60000 };

struct gd_metrics {
  char directory[GD_PATH_BYTES];
  int64_t step; /* resumed at */
  gd_append file;
  gd_tensorboard *board; /* NULL: not wanted, or not open yet */
  bool wants_board;
  int64_t next_ms, pause_ms; /* when to try again to open what is not, after which pause; 0: it never failed */
};

static const char *const names[] = {"start", "train", "validation", "checkpoint", "profile", "end", "stopped", "lost"};
enum { EVENTS = sizeof names / sizeof *names };

/* ---- cutting back ---- */

/* What cutting back found. */
typedef struct cut {
  int64_t step;          /* to resume at */
  int64_t counted, said; /* step of the last line of training, by counting lines and as it says; -1: none yet */
  int64_t line, damaged, first_damaged;
} cut;

static void note_damage(cut *at) {
  if (!at->damaged++) at->first_damaged = at->line;
}

/* Lines of training follow each other. Where one does not, its number is wrong, or lines are missing before it: what comes next
 * may follow either way. */
static void follow(cut *at, int64_t step) {
  bool follows = at->counted < 0 || step == at->counted + 1 || step == at->said + 1;
  if (!follows) note_damage(at);
  at->counted = follows ? step : at->counted + 1;
  at->said = step;
}

/* Whether a line stands in the file of a run that resumes at cut->step. The validation of that very step does not: the resumed
 * run does it again, since a kill may have come before or after it. */
static bool belongs(const char *line, size_t count, cut *at) {
  gd_json *root = NULL;
  int64_t step = 0;
  if (gd_json_parse(line, count, "metrics.jsonl", 1, &root) != GD_OK) gd_error_clear();
  const char *event = gd_json_string(gd_json_get(root, "event"));
  size_t kind = 0;
  while (event && kind < EVENTS && strcmp(event, names[kind]) != 0) kind++;
  bool whole = event && kind < EVENTS && gd_json_integer(gd_json_get(root, "step"), &step) && step >= 0;
  gd_json_free(root);
  if (!whole) {
    note_damage(at);
    if (at->counted >= 0) at->counted++; /* it may have been one of training */
    return false;
  }
  if (kind == GD_METRICS_TRAIN) follow(at, step);
  if (kind == GD_METRICS_LOST) at->counted = at->said = -1;
  if (kind == GD_METRICS_END || kind == GD_METRICS_PROFILE || kind == GD_METRICS_STOPPED) return false;
  return step <= at->step && !(step == at->step && kind == GD_METRICS_VALIDATION);
}

static gd_status cut_back(const char *path, int64_t step) {
  gd_bytes old = {0}, kept = {0};
  gd_status status = GD_OK;
  cut at = {.step = step, .counted = -1, .said = -1};
  gd_path_kind kind;
  GD_TRY(gd_path_look(path, &kind));
  if (kind == GD_PATH_NOTHING) return GD_OK;
  if (step > 0) GD_TRY_GOTO(status, done, gd_file_read(path, FILE_LIMIT, &old));
  for (size_t first = 0; first < old.count;) {
    const char *line = old.bytes + first, *end = memchr(line, '\n', old.count - first);
    size_t length = end ? (size_t)(end - line) : old.count - first;
    cut before = at;
    at.line++;
    if (belongs(line, length, &at)) {
      GD_TRY_GOTO(status, done, gd_bytes_append(&kept, line, length));
      GD_TRY_GOTO(status, done, gd_bytes_append(&kept, "\n", 1));
    } else if (!end) {
      at = before; /* half-written when the run was killed: no damage */
    }
    first += length + 1;
  }
  if (at.damaged)
    gd_log(GD_LOG_WARNING,
           "%s:%" PRId64 ": is damaged (no event of a run, or a step that does not follow the one before), %" PRId64
           " such line%s in all; what is no event is left out",
           path, at.first_damaged, at.damaged, at.damaged == 1 ? "" : "s");
  status = gd_file_replace(path, kept.bytes, kept.count);
done:
  gd_bytes_free(&old);
  gd_bytes_free(&kept);
  return status;
}

/* ---- open, close ---- */

static gd_status open_lines(gd_metrics *metrics) {
  int64_t lost = metrics->file.lost;
  GD_TRY(gd_folder_make(metrics->directory));
  GD_TRY(cut_back(metrics->file.path, metrics->step));
  gd_status status = gd_append_open(&metrics->file, 0);
  metrics->file.lost = lost;
  return status;
}

/* What is not open yet. A disk that refuses is asked again later: metrics are no reason not to train. */
static gd_status open_both(gd_metrics *metrics) {
  char folder[GD_PATH_BYTES];
  bool board = metrics->wants_board && !metrics->board;
  if ((metrics->file.file >= 0 && !board) || gd_machine_now_ms() < metrics->next_ms) return GD_OK;
  gd_status status = metrics->file.file < 0 ? open_lines(metrics) : GD_OK;
  if (board && status == GD_OK) status = gd_path_join(folder, sizeof folder, metrics->directory, "tensorboard");
  if (board && status == GD_OK) status = gd_tensorboard_open(folder, metrics->step + 1, &metrics->board);
  if (status != GD_IO && status != GD_BAD_DATA) return status;
  if (!metrics->pause_ms)
    gd_log_fault(GD_LOG_WARNING, "%s; the run goes on without these metrics until it can be", gd_error_text());
  gd_error_clear();
  metrics->pause_ms = metrics->pause_ms ? 2 * metrics->pause_ms : RETRY_MS;
  if (metrics->pause_ms > LATEST_RETRY_MS) metrics->pause_ms = LATEST_RETRY_MS;
  metrics->next_ms = gd_machine_now_ms() + metrics->pause_ms;
  return GD_OK;
}

gd_status gd_metrics_open(const char *run_directory, int64_t step, bool tensorboard, gd_metrics **out) {
  *out = NULL;
  gd_metrics *metrics = calloc(1, sizeof *metrics);
  if (!metrics) return gd_fail(GD_NO_MEMORY, "no memory for metrics");
  metrics->file.file = -1;
  metrics->step = step;
  metrics->wants_board = tensorboard;
  snprintf(metrics->directory, sizeof metrics->directory, "%s", run_directory);
  gd_status status = gd_path_join(metrics->file.path, sizeof metrics->file.path, run_directory, "metrics.jsonl");
  if (status == GD_OK) status = open_both(metrics);
  if (status != GD_OK)
    gd_metrics_close(metrics);
  else
    *out = metrics;
  return status;
}

void gd_metrics_close(gd_metrics *metrics) {
  if (!metrics) return;
  gd_append_close(&metrics->file);
  gd_tensorboard_close(metrics->board);
  free(metrics);
}

/* ---- one line ---- */

static gd_status put_number(gd_bytes *out, const char *name, double value) {
  return isfinite(value) ? gd_bytes_printf(out, ", \"%s\": %.9g", name, value) : gd_bytes_printf(out, ", \"%s\": null", name);
}

gd_status gd_metrics_format(const gd_metrics_line *line, gd_bytes *out) {
  bool train = line->event == GD_METRICS_TRAIN, validation = line->event == GD_METRICS_VALIDATION;
  GD_TRY(gd_bytes_printf(out, "{\"event\": \"%s\", \"step\": %" PRId64 ", \"tokens\": %" PRId64, names[line->event], line->step,
                         line->tokens));
  if (train || validation) GD_TRY(put_number(out, "loss", line->loss));
  for (int m = GD_METRIC_LOSS + 1; validation && line->scores && m < GD_METRICS; m++)
    if (isfinite(line->scores[m])) GD_TRY(put_number(out, gd_metric_look((gd_metric)m)->name, line->scores[m]));
  if (train) GD_TRY(put_number(out, "lr", line->lr));
  if (train) GD_TRY(put_number(out, "grad_norm", line->grad_norm));
  if (train || validation || line->event == GD_METRICS_CHECKPOINT) GD_TRY(put_number(out, "ms", line->ms));
  if (train) {
    GD_TRY(put_number(out, "tokens_per_s", line->tokens_per_s));
    GD_TRY(put_number(out, "tflops", line->tflops));
    GD_TRY(put_number(out, "mfu", line->mfu));
    GD_TRY(gd_bytes_printf(out, ", \"memory_bytes\": %" PRId64 ", \"skipped\": %s", line->memory_bytes,
                           line->skipped ? "true" : "false"));
  }
  if (line->event == GD_METRICS_PROFILE || line->event == GD_METRICS_STOPPED)
    GD_TRY(gd_bytes_append(out, line->fields, strlen(line->fields)));
  if (line->event == GD_METRICS_LOST) GD_TRY(gd_bytes_printf(out, ", \"lines\": %" PRId64, line->lines));
  return gd_bytes_printf(out, "}\n");
}

static gd_status draw(const gd_metrics *metrics, const gd_metrics_line *line) {
  if (!metrics->board) return GD_OK;
  if (line->event == GD_METRICS_VALIDATION) {
    gd_scalar measured[GD_METRICS] = {{"loss/validation", line->loss}};
    char of[GD_METRICS][32];
    int count = 1;
    for (int m = GD_METRIC_LOSS + 1; line->scores && m < GD_METRICS; m++) {
      if (!isfinite(line->scores[m])) continue;
      snprintf(of[m], sizeof of[m], "%s/validation", gd_metric_look((gd_metric)m)->name);
      measured[count++] = (gd_scalar){of[m], line->scores[m]};
    }
    return gd_tensorboard_write(metrics->board, line->step, measured, count);
  }
  if (line->event != GD_METRICS_TRAIN) return GD_OK;
  gd_scalar scalars[MOST_SCALARS] = {{"loss/train", line->loss},
                                     {"optimizer/lr", line->lr},
                                     {"optimizer/grad_norm", line->grad_norm},
                                     {"speed/tokens_per_s", line->tokens_per_s},
                                     {"speed/tflops", line->tflops}};
  int count = 5;
  if (isfinite(line->mfu)) scalars[count++] = (gd_scalar){"speed/mfu", line->mfu};
  return gd_tensorboard_write(metrics->board, line->step, scalars, count);
}

gd_status gd_metrics_write(gd_metrics *metrics, const gd_metrics_line *line) {
  gd_bytes text = {0};
  GD_TRY(open_both(metrics));
  gd_status status = GD_OK;
  if (metrics->file.lost) {
    gd_metrics_line gap = {.event = GD_METRICS_LOST, .step = line->step, .tokens = line->tokens, .lines = metrics->file.lost};
    status = gd_metrics_format(&gap, &text);
  }
  if (status == GD_OK) status = gd_metrics_format(line, &text);
  if (metrics->file.file < 0)
    metrics->file.lost++;
  else if (status == GD_OK)
    gd_append_offer(&metrics->file, text.bytes, text.count);
  gd_bytes_free(&text);
  if (status == GD_OK) status = draw(metrics, line);
  return status;
}
