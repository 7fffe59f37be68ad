/* attention_bounds.h - attention in bfloat16 against float64, each element within the bound of docs/rounding.md; the CPU's must
 * be within it too. Backward takes the out and lse that the device's own forward gave. */
#ifndef GD_TESTS_GPU_ATTENTION_BOUNDS_H
#define GD_TESTS_GPU_ATTENTION_BOUNDS_H

#include "tests/gpu/product_cases.h"

/* Unit roundoff of bfloat16 and of float32; of a chain of n terms in steps of a tensor core. */
static const double stored_roundoff = 0x1p-8, float_roundoff = 0x1p-24;
static double chain_error(int64_t n) {
  return 2.5 * (double)n * float_roundoff;
}

/* What a device gave: its notes, and the largest error so far as a share of the bound. */
typedef struct given {
  const float *out, *lse, *delta, *dq, *dk, *dv;
  double worst;
  const char *where;
} given;

static given given_of(const side *s, const gd_attention *a) {
  int64_t q_elements = a->batch * a->q_batch, kv_elements = a->batch * a->kv_batch;
  int64_t rows = (int64_t)a->batch * a->heads * a->query_length;
  given g = {.out = s->notes, .where = "nowhere"};
  g.lse = g.out + q_elements;
  g.delta = g.lse + rows;
  g.dq = g.delta + rows;
  g.dk = g.dq + q_elements;
  g.dv = g.dk + kv_elements;
  return g;
}

static void within(given *g, const char *what, double wanted, float found, double bound) {
  double error = fabs((double)found - wanted), share = error / (1.01 * bound + 1e-37); /* 1.01: terms of second order */
  if (wanted == (double)found) share = 0;
  if (isnan(share)) share = INFINITY;
  if (share <= g->worst) return;
  g->worst = share;
  g->where = what;
}

static double stored(const void *p, int64_t i) {
  return (double)gd_bfloat16_to_float(((const gd_bfloat16 *)p)[i]);
}

/* sum and, in *size, sum of magnitudes of x[i] y[i]. */
static double dot(const void *x, int64_t x_at, const void *y, int64_t y_at, int width, double *size) {
  double sum = 0;
  *size = 0;
  for (int d = 0; d < width; d++) {
    double term = stored(x, x_at + d) * stored(y, y_at + d);
    sum += term;
    *size += fabs(term);
  }
  return sum;
}

/* One query row of one head. gradients: [2][kv elements] of each of dk and dv, the sums and their bounds so far. */
static void check_row(const gd_attention *a, int64_t b, int64_t i, int64_t h, given *g, double *dk, double *dv) {
  enum { MAX_KEYS = 256, MAX_WIDTH = 256 };
  double score[MAX_KEYS], error[MAX_KEYS], factor[MAX_KEYS], sum = 0, largest = -INFINITY, worst_error = 0;
  int64_t width = a->head_size, q_at = b * a->q_batch + i * a->q_row + h * width,
          row = (b * a->heads + h) * a->query_length + i;
  int64_t kv_at = b * a->kv_batch + h / (a->heads / a->kv_heads) * width, kv_elements = a->batch * a->kv_batch;
  int32_t position = a->positions ? a->positions[i] : a->query_start + (int32_t)i;
  int32_t low = a->document_starts ? a->document_starts[b * a->query_length + i] : 0;
  bool seen[MAX_KEYS];
  double size, kept = a->dropout > 0 ? 1.0 / (1.0 - (double)a->dropout) : 1;
  for (int32_t j = 0; j < a->key_length; j++) {
    seen[j] = (j >= low && j <= position) || j < a->prefix_length;
    if (!seen[j]) continue;
    score[j] = (double)a->scale * dot(a->q, q_at, a->k, kv_at + j * a->kv_row, (int)width, &size);
    error[j] = chain_error(width) * (double)a->scale * size + 4 * float_roundoff * (fabs(score[j]) + fabs((double)g->lse[row]));
    int64_t index =
        (((a->first_sequence + b) * a->all_heads + a->first_head + h) * a->query_total + position) * a->key_total + j;
    bool dropped = a->dropout > 0 && gd_rng_word(&a->rng, (uint64_t)index) < gd_rng_dropout_threshold(a->dropout);
    factor[j] = dropped ? 0 : kept;
    largest = fmax(largest, score[j]);
    worst_error = fmax(worst_error, error[j] + 8 * float_roundoff);
  }
  for (int32_t j = 0; j < a->key_length; j++)
    if (seen[j]) sum += exp(score[j] - largest);
  double lse = sum > 0 ? largest + log(sum) : -INFINITY, chain = chain_error(a->key_length) + 16 * float_roundoff;
  within(g, "lse", lse, g->lse[row], worst_error + chain + 8 * float_roundoff * fabs(lse));
  double delta = 0, delta_size = 0, dq[MAX_WIDTH] = {0}, dq_bound[MAX_WIDTH] = {0};
  for (int d = 0; d < width; d++) {
    double result = 0;
    size = 0;
    for (int32_t j = 0; j < a->key_length; j++) {
      if (!seen[j]) continue;
      double term = exp(score[j] - lse) * factor[j] * stored(a->v, kv_at + j * a->kv_row + d);
      result += term;
      size += fabs(term);
    }
    within(g, "out", result, g->out[q_at + d],
           (stored_roundoff + 2 * worst_error + chain) * size + stored_roundoff * fabs(result));
    double term = stored(a->dout, q_at + d) * (double)g->out[q_at + d];
    delta += term;
    delta_size += fabs(term);
  }
  double delta_error = chain_error(width) * delta_size;
  within(g, "delta", delta, g->delta[row], delta_error);
  for (int32_t j = 0; j < a->key_length; j++) {
    if (!seen[j]) continue;
    int64_t at = kv_at + j * a->kv_row;
    double weight = exp(score[j] - (double)g->lse[row]), weight_error = error[j] + 8 * float_roundoff;
    double dweight = factor[j] * dot(a->dout, q_at, a->v, at, (int)width, &size);
    double ds = weight * (dweight - delta);
    double ds_error =
        weight * (chain_error(width) * factor[j] * size + delta_error + 2 * float_roundoff * (fabs(dweight) + fabs(delta))) +
        (weight_error + stored_roundoff + chain) * fabs(ds);
    for (int d = 0; d < width; d++) {
      double key = (double)a->scale * stored(a->k, at + d), query = (double)a->scale * stored(a->q, q_at + d);
      double dout = stored(a->dout, q_at + d), used = weight * factor[j];
      dq[d] += ds * key;
      dq_bound[d] += ds_error * fabs(key);
      dk[at + d] += ds * query;
      dk[kv_elements + at + d] += ds_error * fabs(query);
      dv[at + d] += used * dout;
      dv[kv_elements + at + d] += (weight_error + stored_roundoff + chain) * fabs(used * dout);
    }
  }
  for (int d = 0; d < width; d++) within(g, "dq", dq[d], g->dq[q_at + d], dq_bound[d] + stored_roundoff * fabs(dq[d]));
}

/* a: with pointers that the host can read. */
static void check_bounds(const gd_attention *a, given *g) {
  int64_t kv_elements = a->batch * a->kv_batch;
  double *dk = calloc((size_t)(4 * kv_elements), sizeof *dk), *dv = dk + 2 * kv_elements;
  if (!dk) abort();
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t i = 0; i < a->query_length; i++) check_row(a, b, i, h, g, dk, dv);
  for (int64_t i = 0; i < kv_elements; i++) {
    within(g, "dk", dk[i], g->dk[i], dk[kv_elements + i] + stored_roundoff * fabs(dk[i]));
    within(g, "dv", dv[i], g->dv[i], dv[kv_elements + i] + stored_roundoff * fabs(dv[i]));
  }
  free(dk);
}

/* Rows of queries alone have the bits that they have among others: forward and dq. */
static bool rows_stay(side *s) {
  enum { FIRST = 37, LENGTH = 150, HEADS = 2, WIDTH = 64, ROW = HEADS * WIDTH };
  const attended whole = {1, HEADS, 1, WIDTH, LENGTH, LENGTH, .query_block = 128};
  const gd_attention a = attend(s, &whole, GD_BFLOAT16, 0);
  int64_t noted = s->note_count, rows = LENGTH - FIRST;
  gd_attention part = a;
  part.query_length = (int32_t)rows;
  part.query_start = FIRST;
  part.q = (const char *)a.q + 2 * FIRST * ROW;
  part.dout = (const char *)a.dout + 2 * FIRST * ROW;
  part.out = output(s, rows * ROW, GD_BFLOAT16);
  part.dq = output(s, rows * ROW, GD_BFLOAT16);
  part.lse = output(s, rows * HEADS, GD_FLOAT32);
  part.delta = output(s, rows * HEADS, GD_FLOAT32);
  gpu_must(s->kernels.ops->attention_forward(&s->kernels, &part));
  gpu_must(s->kernels.ops->attention_backward(&s->kernels, &part));
  note(s, part.out, rows * ROW, GD_BFLOAT16);
  note(s, part.dq, rows * ROW, GD_BFLOAT16);
  const float *out = s->notes + FIRST * ROW, *dq = s->notes + LENGTH * ROW + 2 * LENGTH * HEADS + FIRST * ROW;
  size_t bytes = (size_t)(rows * ROW) * sizeof(float);
  bool same = memcmp(out, s->notes + noted, bytes) == 0 && memcmp(dq, s->notes + noted + rows * ROW, bytes) == 0;
  return release(s) && same;
}

/* Every case on numbers of GPTDIST_CHECK_SEEDS (1) seeds, twice for equal bits. stop: at the first fault. */
static int check_attention(side *cpu, side *gpu, bool stop) {
  const char *text = getenv("GPTDIST_CHECK_SEEDS");
  int seeds = text ? atoi(text) : 1, failed = 0;
  double worst[2] = {0};
  float *first = malloc(MAX_NOTES * sizeof *first);
  if (!first) abort();
  for (int i = 0; i < ATTENTIONS * seeds; i++) {
    const attended *c = &attentions[i % ATTENTIONS];
    uint64_t seed = (uint64_t)(i / ATTENTIONS) * 16;
    bool whole = true, same = true;
    cpu->note_count = 0;
    gd_attention a = attend(cpu, c, GD_BFLOAT16, seed);
    for (int run = 0; run < 2; run++) {
      gpu->note_count = 0;
      (void)attend(gpu, c, GD_BFLOAT16, seed);
      whole = release(gpu) && whole;
      if (run == 0) memcpy(first, gpu->notes, (size_t)gpu->note_count * sizeof *first);
    }
    same = memcmp(first, gpu->notes, (size_t)gpu->note_count * sizeof *first) == 0;
    given of[2] = {given_of(cpu, &a), given_of(gpu, &a)};
    for (int k = 0; k < 2; k++) {
      check_bounds(&a, &of[k]);
      worst[k] = fmax(worst[k], of[k].worst);
    }
    whole = release(cpu) && whole;
    if (whole && same && of[0].worst <= 1 && of[1].worst <= 1) continue;
    printf("attention bfloat16 case %d: %.2f of the bound (%s), the CPU's %.2f (%s)%s%s  FAILED\n", i, of[1].worst, of[1].where,
           of[0].worst, of[0].where, whole ? "" : ": wrote outside a buffer", same ? "" : ": two runs differ");
    failed = 1;
    if (stop) exit(1);
  }
  free(first);
  gpu->note_count = 0;
  bool stay = rows_stay(gpu);
  if (stop && !stay) exit(1);
  printf("%-16s %-9s %9d  %.2f of the bound, the CPU's %.2f%s%s\n", "attention bf16", "bfloat16", ATTENTIONS * seeds, worst[1],
         worst[0], failed ? "  FAILED" : "", stay ? "" : ": rows alone have other bits  FAILED");
  return failed || !stay;
}

#endif
