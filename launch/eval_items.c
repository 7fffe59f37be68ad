/* eval_items.c - gptdist-eval --task lambada, piqa, hellaswag: many small items. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/eval.h"

static void print_task(const gd_eval *e, const double totals[GD_SCORE_SUMS], int64_t items) {
  double n = items > 0 ? (double)items : 1, accuracy = totals[0] / n;
  double spread = items > 1 ? sqrt(accuracy * (1 - accuracy) / (n - 1)) : 0;
  bool lambada = strcmp(e->task, "lambada") == 0;
  const char *second = lambada ? "perplexity" : "accuracy_by_byte";
  double value = lambada ? exp(totals[1] / n) : totals[3] / n;
  if (e->line.json) {
    printf("{\"task\":\"%s\",\"accuracy\":%.9g,\"standard_error\":%.9g,\"%s\"", e->task, accuracy, spread, second);
    gd_eval_print_number(":", value);
    printf(",\"items\":%lld}\n", (long long)items);
  } else
    printf("%s accuracy %.4f (standard error %.4f)  %s %.4f  over %lld items\n", e->task, accuracy, spread, second, value,
           (long long)items);
}

gd_status gd_eval_items(gd_eval *e) {
  static const char *const names[] = {
      [GD_TASK_LAMBADA] = "lambada", [GD_TASK_PIQA] = "piqa", [GD_TASK_HELLASWAG] = "hellaswag"};
  gd_task_kind kind = GD_TASK_LAMBADA;
  while (strcmp(e->task, names[kind]) != 0) kind++;
  gd_task *task = 0;
  double totals[GD_SCORE_SUMS];
  int64_t done = 0;
  gd_status status = gd_eval_need_tokenizer(e);
  if (status == GD_OK) status = gd_path_named(e->data, GD_PATH_FILE, "the task's items, a JSON Lines file");
  if (status == GD_OK) status = gd_task_open(kind, e->data, e->model.tokenizer, &task);
  status = gd_session_agree(e->model.session, status);
  if (status == GD_OK) {
    int64_t items = gd_task_items(task);
    if (e->limit > 0 && e->limit < items) items = e->limit;
    status = gd_score_all(&e->evaluator, items, gd_task_score, gd_eval_stop_asked, &task, totals, &done);
    if (status == GD_OK) gd_eval_note_cut(e, done, items, "items");
  }
  if (status == GD_OK && e->first) print_task(e, totals, done);
  if (task) gd_task_close(task);
  return status;
}
