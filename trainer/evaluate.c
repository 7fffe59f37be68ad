/* evaluate.c - log-probabilities of given tokens in passes over a model: perplexity, logits, the score of an answer. */
#include "trainer/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

gd_status gd_evaluator_open(gd_model *model, gd_evaluator *out) {
  size_t elems = (size_t)model->layout.spec.batch.sequence * (size_t)gd_model_outputs(model);
  *out = (gd_evaluator){model, malloc(elems * sizeof(float))};
  if (!out->logits) return gd_fail(GD_NO_MEMORY, "no memory for %zu logits", elems);
  return GD_OK;
}

void gd_evaluator_close(gd_evaluator *evaluator) {
  free(evaluator->logits);
  memset(evaluator, 0, sizeof *evaluator);
}

/* Visits the logits of passes of batch.sequence tokens: `pass` gets [rows][V]. */
typedef gd_status pass_visit(void *context, int64_t first, int32_t rows, const float *logits);

static gd_status run_passes(gd_evaluator *evaluator, const int32_t *tokens, int64_t count, pass_visit *visit, void *context) {
  gd_model *model = evaluator->model;
  int32_t vocabulary = model->layout.spec.model.vocabulary, chunk = model->layout.spec.batch.sequence;
  if (count > model->cache.capacity)
    return gd_fail_user(GD_USAGE, "%lld tokens do not fit the context of %d tokens", (long long)count, model->cache.capacity);
  for (int64_t i = 0; i < count; i++)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      return gd_fail_user(GD_BAD_DATA, "token id %d at position %lld: this model has ids 0 to %d", tokens[i], (long long)i,
                          vocabulary - 1);
  model->cache.length = 0;
  for (int64_t first = 0; first < count; first += chunk) {
    int32_t rows = count - first < chunk ? (int32_t)(count - first) : chunk;
    GD_TRY(gd_model_infer(model, tokens + first, rows, rows, evaluator->logits));
    GD_TRY(visit(context, first, rows, evaluator->logits));
  }
  return GD_OK;
}

typedef struct row_context {
  gd_logits_row *visit;
  void *context;
  int32_t outputs;
} row_context;

static gd_status visit_rows(void *context, int64_t first, int32_t rows, const float *logits) {
  const row_context *c = context;
  for (int32_t r = 0; r < rows; r++) GD_TRY(c->visit(c->context, first + r, logits + (int64_t)r * c->outputs));
  return GD_OK;
}

gd_status gd_evaluator_logits(gd_evaluator *evaluator, const int32_t *tokens, int64_t count, gd_logits_row *visit,
                              void *context) {
  row_context c = {visit, context, gd_model_outputs(evaluator->model)};
  return run_passes(evaluator, tokens, count, visit_rows, &c);
}

typedef struct score_context {
  const int32_t *targets;
  int64_t first;
  double *log_likelihood;
  bool *greedy;
  int32_t vocabulary, threads;
} score_context;

static void score_row(const score_context *c, int64_t position, const float *logits) {
  int32_t target = c->targets[position], best = 0;
  double sum = 0;
  for (int32_t i = 1; i < c->vocabulary; i++)
    if (logits[i] > logits[best]) best = i;
  for (int32_t i = 0; i < c->vocabulary; i++) sum += exp((double)logits[i] - (double)logits[best]);
  c->log_likelihood[position] = (double)logits[target] - (double)logits[best] - log(sum);
  if (c->greedy) c->greedy[position] = best == target;
}

static gd_status score_rows(void *context, int64_t first, int32_t rows, const float *logits) {
  const score_context *c = context;
#pragma omp parallel for num_threads(c->threads) schedule(static)
  for (int32_t r = 0; r < rows; r++)
    if (first + r >= c->first) score_row(c, first + r, logits + (int64_t)r * c->vocabulary);
  return GD_OK;
}

gd_status gd_evaluator_score(gd_evaluator *evaluator, const int32_t *tokens, const int32_t *targets, int64_t count,
                             int64_t first, double *log_likelihood, bool *greedy) {
  int32_t vocabulary = evaluator->model->layout.spec.model.vocabulary;
  for (int64_t i = first; i < count; i++)
    if (targets[i] < 0 || targets[i] >= vocabulary)
      return gd_fail_user(GD_BAD_DATA, "target id %d: this model has ids 0 to %d", targets[i], vocabulary - 1);
  score_context c = {targets, first, log_likelihood, greedy, vocabulary, evaluator->model->kernels.threads};
  return run_passes(evaluator, tokens, count, score_rows, &c);
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
  gd_status status = gd_evaluator_score(evaluator, tokens, targets, count, 0, log_likelihood, 0);
  for (int64_t i = 0; i < count && status == GD_OK; i++) {
    if (source->dataset && source->batch.weights[i] == 0.0f) continue;
    sums[0] -= log_likelihood[i];
    sums[1] += 1;
  }
  free(log_likelihood);
  return status;
}
