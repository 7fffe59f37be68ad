/* sampling.c - temperature, top-k, top-p and penalties; selection without sorting the vocabulary. */
#include "trainer/sampling.h"

#include <math.h>
#include <stdlib.h>

#include "shard/base/rng.h"

/* Larger logits first, lower ids among equals. */
static bool before(gd_candidate x, gd_candidate y) {
  return x.logit != y.logit ? x.logit > y.logit : x.token < y.token;
}

static int in_order(const void *a, const void *b) {
  const gd_candidate *x = a, *y = b;
  return before(*y, *x) - before(*x, *y);
}

/* A heap whose root is the first in order, or the last. */
static void sift(gd_candidate *heap, int32_t count, int32_t at, bool first_on_top) {
  gd_candidate moved = heap[at];
  for (int32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && before(heap[child + 1], heap[child]) == first_on_top) child++;
    if (before(heap[child], moved) != first_on_top) break;
    heap[at] = heap[child];
  }
  heap[at] = moved;
}

static void make_heap(gd_candidate *heap, int32_t count, bool first_on_top) {
  for (int32_t i = count / 2 - 1; i >= 0; i--) sift(heap, count, i, first_on_top);
}

/* The k best, as a heap with the last of them on top, where there are more; else all there are as they come. */
static int32_t collect(const float *values, int32_t count, double least, const bool *never, int32_t k, gd_candidate *out) {
  int32_t kept = 0;
  for (int32_t i = 0; i < count; i++) {
    if (!((double)values[i] >= least) || (never && never[i])) continue;
    gd_candidate c = {values[i], i};
    if (kept < k) {
      out[kept++] = c;
      if (kept == k) make_heap(out, k, false);
    } else if (before(c, out[0])) {
      out[0] = c;
      sift(out, k, 0, false);
    }
  }
  return kept;
}

int32_t gd_best(const float *values, int32_t count, float least, const bool *never, int32_t k, gd_candidate *out) {
  int32_t kept = collect(values, count, (double)least, never, k, out);
  qsort(out, (size_t)kept, sizeof *out, in_order);
  return kept;
}

void gd_sampling_process(const gd_sampling *sampling, const int32_t *tokens, int64_t count, int64_t new_tokens,
                         int32_t vocabulary, const float *raw, float *logits) {
  float penalty = (float)sampling->repetition_penalty;
  if (penalty > 0 && penalty != 1.0f)
    for (int64_t i = 0; i < count; i++) {
      float x = raw[tokens[i]];
      logits[tokens[i]] = x < 0 ? x * penalty : x / penalty;
    }
  if (!sampling->ends || new_tokens >= sampling->min_new_tokens) return;
  for (int32_t i = 0; i < vocabulary; i++)
    if (sampling->ends[i]) logits[i] = -INFINITY;
}

static int32_t most_likely(const float *logits, int32_t vocabulary, const bool *never) {
  int32_t best = -1;
  for (int32_t i = 0; i < vocabulary; i++) {
    if (never && never[i]) continue;
    if (best < 0 || logits[i] > logits[best]) best = i;
  }
  return best < 0 ? 0 : best;
}

/* Candidates in order, found as far as they are asked for: the tail of a vocabulary is hardly ever. */
typedef struct ordered {
  gd_candidate *candidates;
  int32_t count;
  int32_t found; /* -1: candidates are sorted; else so many were popped from the heap, to the end of the array */
} ordered;

static gd_candidate candidate_at(ordered *o, int32_t i) {
  if (o->found < 0) return o->candidates[i];
  for (; o->found <= i; o->found++) {
    int32_t last = o->count - 1 - o->found;
    gd_candidate first = o->candidates[0];
    o->candidates[0] = o->candidates[last];
    o->candidates[last] = first;
    sift(o->candidates, last, 0, true);
  }
  return o->candidates[o->count - 1 - i];
}

int32_t gd_sample(const gd_sampling *sampling, const float *logits, int32_t vocabulary, int64_t position,
                  gd_candidate *candidates) {
  int32_t best = most_likely(logits, vocabulary, sampling->never);
  if (sampling->temperature <= 0) return best;
  /* Beyond this a weight is 0 in double arithmetic. */
  double largest = (double)logits[best], cut = largest - 700 * sampling->temperature, sum = 0, kept = 0;
  bool some = sampling->top_k > 0 && sampling->top_k < vocabulary;
  ordered o = {.candidates = candidates, .found = some ? -1 : 0};
  o.count = collect(logits, vocabulary, cut, sampling->never, some ? sampling->top_k : vocabulary, candidates);
  if (o.count == 0) return best; /* no logit is a number */
  if (some)
    qsort(candidates, (size_t)o.count, sizeof *candidates, in_order);
  else
    make_heap(candidates, o.count, true);
#define WEIGHT(candidate) exp(((double)(candidate).logit - largest) / sampling->temperature)
  for (int32_t i = 0; i < o.count; i++) sum += WEIGHT(candidates[i]);
  int32_t last = o.count - 1;
  kept = sum;
  if (sampling->top_p < 1) {
    kept = 0;
    for (last = 0; last < o.count; last++) {
      kept += WEIGHT(candidate_at(&o, last));
      if (kept >= sampling->top_p * sum) break;
    }
    if (last == o.count) last--;
  }
  gd_rng rng = gd_rng_make(sampling->seed, GD_RNG_SAMPLING, 0, sampling->stream, (uint64_t)position);
  double left = (double)gd_rng_word(&rng, 0) * 0x1p-32 * kept;
  for (int32_t i = 0; i < last; i++) {
    gd_candidate c = candidate_at(&o, i);
    left -= WEIGHT(c);
    if (left < 0) return c.token;
  }
#undef WEIGHT
  return candidate_at(&o, last).token;
}

double gd_log_sum_exp(const float *logits, int32_t vocabulary) {
  float largest = logits[0];
  double sum = 0;
  for (int32_t i = 1; i < vocabulary; i++) largest = logits[i] > largest ? logits[i] : largest;
  for (int32_t i = 0; i < vocabulary; i++) sum += exp((double)logits[i] - (double)largest);
  return (double)largest + log(sum);
}
