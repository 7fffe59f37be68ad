/* eval_perplexity.c - gptdist-eval --task perplexity: of a dataset, or of a text. */
#include <math.h>
#include <stdio.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "launch/eval.h"

/* DIR/validation, else DIR itself; a file is text. */
static gd_status open_windows(const gd_eval *e, gd_window_source *source, gd_ids *ids, size_t *bytes) {
  char path[GD_PATH_BYTES];
  gd_bytes text = {0};
  source->length = e->model.model.cache.capacity;
  *bytes = 0;
  GD_TRY(gd_path_named(e->data, GD_PATH_ANY, "a dataset or a text file"));
  if (gd_folder_exists(e->data)) {
    GD_TRY(gd_path_join(path, sizeof path, e->data, "index.json"));
    bool split = gd_file_exists(path);
    GD_TRY(gd_path_join(path, sizeof path, e->data, "validation"));
    if (!split && !gd_folder_exists(path))
      return gd_fail_user(GD_BAD_DATA,
                          "%s: found neither index.json nor validation/, expected a split or a dataset with a "
                          "validation split (--validation-fraction of gptdist-data prepare)",
                          e->data);
    GD_TRY(gd_dataset_open_split(split ? e->data : path, source->length, false, false, &source->dataset));
    if (gd_dataset_task(source->dataset)->kind == GD_TASK_CLASSIFICATION)
      return gd_fail_user(GD_USAGE,
                          "%s: holds examples for classification, which have no next tokens to score; expected text or "
                          "examples for sft",
                          e->data);
    GD_TRY(gd_inference_check_data(&e->model, e->options.checkpoint, e->data, source->dataset));
    return gd_batch_open(1, source->length, &source->batch);
  }
  GD_TRY(gd_eval_need_tokenizer(e));
  GD_TRY(gd_file_read(e->data, (size_t)1 << 32, &text));
  int32_t start =
      gd_tokenizer_bos(e->model.tokenizer) >= 0 ? gd_tokenizer_bos(e->model.tokenizer) : gd_tokenizer_eot(e->model.tokenizer);
  gd_status status = start >= 0 ? gd_ids_append(ids, &start, 1) : GD_OK;
  if (status == GD_OK) status = gd_tokenizer_encode(e->model.tokenizer, text.bytes, text.count, false, ids);
  *bytes = text.count;
  gd_bytes_free(&text);
  source->ids = ids->ids;
  source->count = (int64_t)ids->count;
  return status;
}

static void print_perplexity(const gd_eval *e, const double totals[GD_SCORE_SUMS], int64_t windows, size_t bytes,
                             double seconds) {
  double loss = totals[1] > 0 ? totals[0] / totals[1] : NAN;
  if (e->line.json) {
    gd_eval_print_number("{\"task\":\"perplexity\",\"loss\":", loss);
    gd_eval_print_number(",\"perplexity\":", exp(loss));
    printf(",\"tokens\":%.0f,\"windows\":%lld", totals[1], (long long)windows);
    if (bytes) gd_eval_print_number(",\"bits_per_byte\":", totals[0] / log(2.0) / (double)bytes);
    printf(",\"tokens_per_s\":%.1f}\n", totals[1] / seconds);
    return;
  }
  printf("loss %.6f  perplexity %.4f  over %.0f tokens in %lld windows of %d", loss, exp(loss), totals[1], (long long)windows,
         e->model.model.cache.capacity);
  if (bytes) printf("  %.4f bits per byte", totals[0] / log(2.0) / (double)bytes);
  printf("  (%.1f tokens/s)\n", totals[1] / seconds);
}

gd_status gd_eval_perplexity(gd_eval *e) {
  gd_window_source source = {0};
  gd_ids ids = {0};
  size_t bytes = 0;
  double totals[GD_SCORE_SUMS], start = gd_machine_seconds();
  int64_t done = 0;
  gd_status status = gd_session_agree(e->model.session, open_windows(e, &source, &ids, &bytes));
  if (status == GD_OK) status = gd_dataset_check(e->model.session, &source.dataset, 1, GD_DATASET_CHECK_SECONDS);
  int64_t items = status == GD_OK ? gd_window_count(&source) : 0;
  if (status == GD_OK && items == 0) status = gd_fail_user(GD_BAD_DATA, "%s: found fewer than two tokens", e->data);
  if (e->limit > 0 && e->limit < items) {
    items = e->limit;
    bytes = 0; /* of a part of the text are not known */
  }
  if (status == GD_OK) status = gd_score_all(&e->evaluator, items, gd_score_window, gd_eval_stop_asked, &source, totals, &done);
  if (status == GD_OK) gd_eval_note_cut(e, done, items, "windows");
  if (status == GD_OK && e->first) print_perplexity(e, totals, done, done == items ? bytes : 0, gd_machine_seconds() - start);
  if (source.dataset) gd_dataset_close(source.dataset);
  gd_batch_close(&source.batch);
  gd_ids_free(&ids);
  return status;
}
