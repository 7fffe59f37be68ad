/* attention_reference.h - attention in double, one query at a time, with its gradients; shared by the attention tests. */
#ifndef GD_TESTS_ATTENTION_REFERENCE_H
#define GD_TESTS_ATTENTION_REFERENCE_H

#include <math.h>
#include <stdlib.h>

#include "trainer/kernels.h"

static inline bool reference_sees(const gd_attention *a, int64_t b, int64_t query, int64_t key) {
  int64_t position = a->positions ? a->positions[query] : a->query_start + query;
  int64_t first = a->document_starts ? a->document_starts[b * a->query_length + query] : 0;
  return (key >= first && key <= position) || key < a->prefix_length;
}

/* What the weight of (b, head, query, key) is multiplied by. */
static inline double reference_kept(const gd_attention *a, int64_t b, int64_t head, int64_t query, int64_t key) {
  if (a->dropout == 0.0f) return 1.0;
  int64_t position = a->positions ? a->positions[query] : a->query_start + query;
  int64_t row = ((a->first_sequence + b) * a->all_heads + a->first_head + head) * a->query_total + position;
  uint32_t word = gd_rng_word(&a->rng, (uint64_t)(row * a->key_total + key));
  return word < gd_rng_dropout_threshold(a->dropout) ? 0.0 : 1.0 / (1.0 - (double)a->dropout);
}

/* q, k, v, out, dout, dq, dk, dv are dense doubles: [batch][length][heads or kv_heads][D]. Gradients may be NULL. */
typedef struct reference {
  const double *q, *k, *v, *dout;
  double *out, *lse, *dq, *dk, *dv;
} reference;

static inline void reference_query(const gd_attention *a, const reference *m, int64_t b, int64_t head, int64_t query) {
  int64_t d_size = a->head_size, kv_head = head / (a->heads / a->kv_heads), keys = a->key_length;
  const double *q = m->q + ((b * a->query_length + query) * a->heads + head) * d_size;
  double *weight = calloc((size_t)keys + 1, sizeof *weight), largest = -INFINITY, sum = 0.0;
  for (int64_t key = 0; key < keys; key++) {
    const double *k = m->k + ((b * keys + key) * a->kv_heads + kv_head) * d_size;
    weight[key] = -INFINITY;
    if (!reference_sees(a, b, query, key)) continue;
    weight[key] = 0.0;
    for (int64_t d = 0; d < d_size; d++) weight[key] += q[d] * k[d];
    weight[key] *= (double)a->scale;
    if (weight[key] > largest) largest = weight[key];
  }
  for (int64_t key = 0; key < keys; key++) sum += weight[key] = isinf(weight[key]) ? 0.0 : exp(weight[key] - largest);
  for (int64_t key = 0; key < keys; key++) weight[key] = sum > 0.0 ? weight[key] / sum : 0.0;
  m->lse[(b * a->heads + head) * a->query_length + query] = sum > 0.0 ? largest + log(sum) : -INFINITY;
  double *out = m->out + ((b * a->query_length + query) * a->heads + head) * d_size;
  for (int64_t d = 0; d < d_size; d++) out[d] = 0.0;
  for (int64_t key = 0; key < keys; key++) {
    const double *v = m->v + ((b * keys + key) * a->kv_heads + kv_head) * d_size;
    double used = weight[key] * reference_kept(a, b, head, query, key);
    for (int64_t d = 0; d < d_size; d++) out[d] += used * v[d];
  }
  if (m->dq) {
    const double *dout = m->dout + ((b * a->query_length + query) * a->heads + head) * d_size;
    double *dq = m->dq + ((b * a->query_length + query) * a->heads + head) * d_size, delta = 0.0;
    for (int64_t d = 0; d < d_size; d++) delta += dout[d] * out[d];
    for (int64_t key = 0; key < keys; key++) {
      int64_t at = ((b * keys + key) * a->kv_heads + kv_head) * d_size;
      double kept = reference_kept(a, b, head, query, key), dweight = 0.0;
      for (int64_t d = 0; d < d_size; d++) dweight += dout[d] * m->v[at + d] * kept;
      double dscore = weight[key] * (dweight - delta) * (double)a->scale;
      for (int64_t d = 0; d < d_size; d++) {
        dq[d] += dscore * m->k[at + d];
        m->dk[at + d] += dscore * q[d];
        m->dv[at + d] += weight[key] * kept * dout[d];
      }
    }
  }
  free(weight);
}

/* Gradients must be zero before. */
static inline void reference_run(const gd_attention *a, const reference *m) {
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t head = 0; head < a->heads; head++)
      for (int64_t query = 0; query < a->query_length; query++) reference_query(a, m, b, head, query);
}

#endif
