/* evaluate.c - log-probabilities of given tokens in passes over a model: perplexity, logits, the score of an answer. */
#include "trainer/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A row of logits belongs to a position of a text. */
typedef struct scored_row {
  const gd_scored *text;
  int64_t position;
} scored_row;

gd_status gd_evaluator_open(gd_model *model, gd_evaluator *out) {
  size_t rows = (size_t)model->activations.rows, elems = rows * (size_t)gd_model_outputs(model);
  *out = (gd_evaluator){.model = model};
  out->logits = malloc(elems * sizeof *out->logits);
  out->tokens = malloc(rows * sizeof *out->tokens);
  out->rows = malloc(rows * sizeof(scored_row));
  out->parts = malloc((size_t)model->cache.slots * sizeof *out->parts);
  if (out->logits && out->tokens && out->rows && out->parts) return GD_OK;
  gd_evaluator_close(out);
  return gd_fail(GD_NO_MEMORY, "no memory for %zu logits", elems);
}

void gd_evaluator_close(gd_evaluator *evaluator) {
  free(evaluator->logits);
  free(evaluator->tokens);
  free(evaluator->rows);
  free(evaluator->parts);
  memset(evaluator, 0, sizeof *evaluator);
}

/* Whether tokens[count] fit the context and have ids of this model. */
static gd_status check_tokens(const gd_model *model, const int32_t *tokens, int64_t count) {
  int32_t vocabulary = model->layout.spec.model.vocabulary;
  if (count > model->cache.capacity)
    return gd_fail_user(GD_USAGE, "%lld tokens do not fit the context of %d tokens", (long long)count, model->cache.capacity);
  for (int64_t i = 0; i < count; i++)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      return gd_fail_user(GD_BAD_DATA, "token id %d at position %lld: this model has ids 0 to %d", tokens[i], (long long)i,
                          vocabulary - 1);
  return GD_OK;
}

gd_status gd_evaluator_logits(gd_evaluator *evaluator, const int32_t *tokens, int64_t count, gd_logits_row *visit,
                              void *context) {
  gd_model *model = evaluator->model;
  int64_t outputs = gd_model_outputs(model);
  int32_t most = (int32_t)model->activations.rows;
  GD_TRY(check_tokens(model, tokens, count));
  model->cache.lengths[0] = 0;
  for (int64_t first = 0; first < count; first += most) {
    int32_t rows = count - first < most ? (int32_t)(count - first) : most;
    gd_infer_part part = {0, rows, rows};
    GD_TRY(gd_model_infer(model, &part, 1, tokens + first, evaluator->logits));
    for (int32_t r = 0; r < rows; r++) GD_TRY(visit(context, first + r, evaluator->logits + r * outputs));
  }
  return GD_OK;
}

/* ---- scores ---- */

static void score_row(const scored_row *row, const float *logits, int32_t outputs) {
  const gd_scored *t = row->text;
  if (t->logits) {
    memcpy(t->logits, logits, (size_t)outputs * sizeof *logits);
    return;
  }
  int32_t target = t->targets[row->position], best = 0;
  double sum = 0;
  for (int32_t i = 1; i < outputs; i++)
    if (logits[i] > logits[best]) best = i;
  for (int32_t i = 0; i < outputs; i++) sum += exp((double)logits[i] - (double)logits[best]);
  t->log_likelihood[row->position] = (double)logits[target] - (double)logits[best] - log(sum);
  if (t->greedy) t->greedy[row->position] = best == target;
}

/* Runs what is left of texts [first, count), text i in slot i, as many rows together as a pass has, and scores the rows that
 * are asked for. */
static gd_status run_texts(gd_evaluator *evaluator, const gd_scored *texts, int32_t first, int32_t count) {
  gd_model *model = evaluator->model;
  int32_t outputs = gd_model_outputs(model), threads = model->kernels.threads;
  int32_t most = (int32_t)model->activations.rows;
  gd_infer_part *parts = evaluator->parts;
  int32_t *tokens = evaluator->tokens;
  scored_row *rows = evaluator->rows;
  while (true) {
    int32_t part_count = 0, taken = 0, wanted = 0;
    for (int32_t i = first; i < count && taken < most; i++) {
      int64_t at = model->cache.lengths[i], left = texts[i].count - at;
      int32_t now = left < most - taken ? (int32_t)left : most - taken, logit_rows = 0;
      if (now == 0) continue;
      memcpy(tokens + taken, texts[i].tokens + at, (size_t)now * sizeof *tokens);
      for (int64_t p = at; p < at + now; p++) {
        if (p < texts[i].first) continue;
        rows[wanted++] = (scored_row){&texts[i], p};
        logit_rows++;
      }
      parts[part_count++] = (gd_infer_part){i, now, logit_rows};
      taken += now;
    }
    if (part_count == 0) return GD_OK;
    GD_TRY(gd_model_infer(model, parts, part_count, tokens, evaluator->logits));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int32_t r = 0; r < wanted; r++) score_row(&rows[r], evaluator->logits + (int64_t)r * outputs, outputs);
  }
}

/* Tokens that two texts begin with, of those that need no score of the second. */
static int64_t common_tokens(const gd_scored *a, const gd_scored *b) {
  int64_t same = 0;
  while (same < a->count && same < b->first && a->tokens[same] == b->tokens[same]) same++;
  return same;
}

gd_status gd_evaluator_score(gd_evaluator *evaluator, const gd_scored *texts, int32_t count) {
  gd_model *model = evaluator->model;
  int32_t vocabulary = model->layout.spec.model.vocabulary;
  if (count > model->cache.slots) return gd_fail(GD_BUG, "%d texts to score in %d slots", count, model->cache.slots);
  for (int32_t t = 0; t < count; t++) {
    GD_TRY(check_tokens(model, texts[t].tokens, texts[t].count));
    for (int64_t i = texts[t].first; i < texts[t].count; i++)
      if (texts[t].targets[i] < 0 || texts[t].targets[i] >= vocabulary)
        return gd_fail_user(GD_BAD_DATA, "target id %d: this model has ids 0 to %d", texts[t].targets[i], vocabulary - 1);
  }
  model->cache.lengths[0] = 0;
  GD_TRY(run_texts(evaluator, texts, 0, 1));
  for (int32_t t = 1; t < count; t++) {
    GD_TRY(gd_model_copy_slot(model, 0, t));
    model->cache.lengths[t] = (int32_t)common_tokens(&texts[0], &texts[t]);
  }
  return run_texts(evaluator, texts, 1, count);
}

gd_status gd_evaluator_last(gd_evaluator *evaluator, gd_scored *texts, int32_t count) {
  gd_model *model = evaluator->model;
  if (count > model->cache.slots) return gd_fail(GD_BUG, "%d texts to run in %d slots", count, model->cache.slots);
  for (int32_t t = 0; t < count; t++) {
    GD_TRY(check_tokens(model, texts[t].tokens, texts[t].count));
    texts[t].first = texts[t].count - 1;
    model->cache.lengths[t] = 0;
  }
  return run_texts(evaluator, texts, 0, count);
}

/* ---- many items ---- */

typedef struct round_result {
  double sums[GD_SCORE_SUMS];
  int32_t counts; /* 1: this rank speaks for its item */
  int32_t stop;
} round_result;

gd_status gd_score_all(gd_evaluator *evaluator, int64_t items, gd_score_item *score, gd_score_stop *stop, void *context,
                       double totals[GD_SCORE_SUMS], int64_t *done) {
  gd_model *model = evaluator->model;
  gd_session *session = model->session;
  int32_t ranks = gd_session_ranks(session), deal = model->data->size;
  round_result *all = calloc((size_t)ranks, sizeof *all);
  if (!all) return gd_fail(GD_NO_MEMORY, "no memory for %d ranks", ranks);
  gd_status status = GD_OK;
  bool stopped = false;
  memset(totals, 0, GD_SCORE_SUMS * sizeof *totals);
  *done = 0;
  for (int64_t first = 0; first < items && !stopped && status == GD_OK; first += deal) {
    round_result mine = {.counts = model->tensor->rank == 0};
    gd_session_progress(session, "evaluation", first);
    if (first + model->data->rank < items) status = score(context, evaluator, first + model->data->rank, mine.sums);
    mine.stop = stop && stop(context);
    status = gd_session_agree(session, status);
    if (status == GD_OK) status = gd_session_all_gather(session, &mine, all, sizeof mine);
    /* The mesh numbers data ranks in rank order, so this adds in item order. */
    for (int32_t r = 0; r < ranks && status == GD_OK; r++) {
      for (int i = 0; all[r].counts && i < GD_SCORE_SUMS; i++) totals[i] += all[r].sums[i];
      stopped = stopped || all[r].stop;
    }
    *done = first + deal < items ? first + deal : items;
  }
  free(all);
  return status;
}

/* ---- windows ---- */

int64_t gd_window_count(const gd_window_source *source) {
  if (source->dataset) return gd_dataset_windows(source->dataset);
  return source->count < 2 ? 0 : (source->count - 2) / source->length + 1;
}

gd_status gd_score_window(void *context, gd_evaluator *evaluator, int64_t item, double sums[GD_SCORE_SUMS]) {
  gd_window_source *source = context;
  int64_t count = source->length;
  const int32_t *tokens, *targets;
  if (source->dataset) {
    GD_TRY(gd_dataset_read(source->dataset, item, 1, &source->batch, 0));
    tokens = source->batch.tokens;
    targets = source->batch.targets;
    while (count > 0 && source->batch.weights[count - 1] == 0.0f) count--; /* the padded end of the last window */
  } else {
    int64_t first = item * source->length;
    if (source->count - 1 - first < count) count = source->count - 1 - first;
    tokens = source->ids + first;
    targets = tokens + 1;
  }
  double *log_likelihood = calloc((size_t)count + 1, sizeof *log_likelihood);
  if (!log_likelihood) return gd_fail(GD_NO_MEMORY, "no memory for %lld scores", (long long)count);
  gd_scored text = {tokens, targets, count, 0, log_likelihood, 0, 0};
  gd_status status = gd_evaluator_score(evaluator, &text, 1);
  for (int64_t i = 0; i < count && status == GD_OK; i++) {
    if (source->dataset && source->batch.weights[i] == 0.0f) continue;
    sums[0] -= log_likelihood[i];
    sums[1] += 1;
  }
  free(log_likelihood);
  return status;
}
