/* kernels.h - the math of the transformer as one table of functions.
 *
 * kernels/cpu/ is the oracle (compiled once for each instruction set), kernels/cuda/ the fast twin. All pointers are device
 * pointers of the table's device; every call returns once enqueued on kernels->stream and its result is ready when the
 * stream has passed it; argument structs are read before the call returns. Nothing allocates. Matrices are row-major;
 * `ld` is the distance of two rows in elements. "stored" dtype = the run's precision (float32 or bfloat16); a kernel reads
 * stored values, computes in float32 and rounds once on store (docs/rounding.md).
 *
 * Summation (design: numerics): a CHAIN adds terms in ascending order, starting from +0, with fused multiply-add where there
 * is a product (bfloat16 products on AVX-512: pairs, vdpbf16ps). A TREE adds leaves as shard/tree.h says: a range splits at the
 * largest power of two below its length. The bits of an element depend on its leaves only, never on rows, columns, tiles or
 * threads. A ROW SUM has 128 lanes: lane l is the CHAIN over elements l, l + 128, ... of a row, then lane i += lane i + 64, 32,
 * 16, 8, 4, 2, 1. Threads split outputs, never sums. Both kinds of device do the same operations in the same order, so they
 * give equal bits, but for CUDA's matrix product and attention in bfloat16, and in `fast` (docs/rounding.md); which NaN a NaN
 * is may differ.
 */
#ifndef GD_TRAINER_KERNELS_H
#define GD_TRAINER_KERNELS_H

#include "comm/calls_sum.h"
#include "comm/device.h"
#include "shard/base/rng.h"
#include "shard/spec.h"

typedef struct gd_kernels gd_kernels;

/* Leaves of `leaf_rows` rows each that so many rows are, and the end of one of them: the last may be short. leaf_rows 0: none.
 */
#define GD_LEAVES(rows, leaf_rows) ((leaf_rows) > 0 ? ((rows) + (leaf_rows)-1) / (leaf_rows) : 0)
#define GD_LEAF_END(leaf, leaf_rows, rows) (((leaf) + 1) * (leaf_rows) < (rows) ? ((leaf) + 1) * (leaf_rows) : (rows))

/* NT: C[m][n] = sum A[m][k] B[n][k]     a linear layer: x [rows, in] by W [out, in]
 * NN: C[m][n] = sum A[m][k] B[k][n]     its input gradient: dy [rows, out] by W [out, in]
 * TN: C[m][n] = sum A[k][m] B[k][n]     its weight gradient: dy [rows, out] by x [rows, in] */
typedef enum gd_matmul_form { GD_MATMUL_NT, GD_MATMUL_NN, GD_MATMUL_TN } gd_matmul_form;

/* What a product does with its result, the tanh GELU being an element's matter:
 * GELU: kept = the result rounded, C = gelu(kept) rounded. DGELU: C = the result rounded, times gelu'(kept), rounded.
 * In `fast` a back end with epilogues may take the unrounded result for both (docs/rounding.md, GELU in a product). */
typedef enum gd_matmul_end { GD_MATMUL_PLAIN, GD_MATMUL_GELU, GD_MATMUL_DGELU } gd_matmul_end;

/* C = TREE over `leaves` outer leaves of (TREE over inner leaves of k_leaf terms of (CHAIN over k)); then + C where accumulate,
 * + bias, rounded once. Outer leaf l reads A + l * a_leaf_stride and B + l * b_leaf_stride. */
typedef struct gd_matmul {
  gd_matmul_form form;
  int64_t m, n;
  int64_t k;      /* inner dimension of one outer leaf */
  int64_t k_leaf; /* inner leaf; 0 = all of k in one chain; the last one of a leaf may be shorter */
  int64_t leaves; /* >= 1 */
  gd_dtype dtype; /* of A, B and bias: stored */
  const void *a;
  int64_t lda, a_leaf_stride; /* elements */
  const void *b;
  int64_t ldb, b_leaf_stride;
  gd_dtype c_dtype; /* float32, or the stored dtype */
  void *c;
  int64_t ldc;
  bool accumulate;  /* C is float32 and leaves == 1, k_leaf == 0: the chain starts from C in place of +0 */
  const void *bias; /* [n] or NULL */
  gd_matmul_end end;
  void *kept; /* of an end: [m][n] stored and dense, as C is then */
} gd_matmul;

/* Layer normalisation (Ba et al. 2016) or root-mean-square normalisation (Zhang and Sennrich 2019) of each row; its means are
 * ROW SUMS. */
typedef struct gd_norm_args {
  gd_norm kind;
  gd_dtype dtype;
  int64_t rows, width;
  float epsilon;
  const void *x;         /* [rows][width] stored */
  const void *weight;    /* [width] stored */
  const void *bias;      /* [width] stored; NULL for rms */
  void *y;               /* forward: [rows][width] stored */
  float *mean, *rstd;    /* [rows]; written by forward, read by backward; mean NULL for rms */
  const void *dy;        /* backward: [rows][width] stored */
  const void *dresidual; /* added to dx before the one rounding; [rows][width] stored or NULL */
  void *dx;              /* [rows][width] stored; may be dresidual */
  int64_t leaf_rows;     /* rows a leaf; the last one may have fewer */
  /* [leaves][width]: CHAIN over the rows of the leaf. dbias_leaves NULL: of the weight alone; both NULL: neither */
  float *dweight_leaves, *dbias_leaves;
} gd_norm_args;

/* out[i] (+)= TREE over leaves of in[leaf][i]. */
typedef struct gd_tree_sum {
  int64_t leaves, elements;
  gd_dtype dtype; /* of in */
  const void *in;
  int64_t leaf_stride; /* elements between leaves of in */
  float *out;          /* [elements]; may be leaf 0 of a float32 in */
  bool accumulate;     /* out + sum, the old value on the left */
} gd_tree_sum;

/* leaves[l][c] = CHAIN over the leaf's rows of x[row][c]: the gradient of a bias. */
typedef struct gd_column_sums {
  int64_t rows, width, ld, leaf_rows;
  gd_dtype dtype;
  const void *x;
  float *leaves; /* [leaves][width]; the last leaf may have fewer rows */
} gd_column_sums;

/* gelu: y = gelu(x), x and y [rows][width]. swiglu: x [rows][2 * width], gate first; y = silu(gate) * up. backward: dx from dy
 * and x (dx may be x or dy). All stored dtype, dense. */
typedef struct gd_activation_args {
  gd_activation kind;
  gd_dtype dtype;
  int64_t rows, width;
  const void *x;
  void *y;
  const void *dy;
  void *dx;
} gd_activation_args;

/* A product with an end as two calls: the product alone, then activation_forward, or _backward for DGELU. */
static inline gd_matmul gd_matmul_alone(const gd_matmul *a) {
  gd_matmul alone = *a;
  alone.end = GD_MATMUL_PLAIN;
  if (a->end == GD_MATMUL_GELU) alone.c = a->kept;
  return alone;
}
static inline gd_activation_args gd_matmul_activation(const gd_matmul *a) {
  gd_activation_args end = {GD_ACTIVATION_GELU_TANH, a->dtype, a->m, a->n, a->kept, a->c, a->c, a->c};
  return end;
}
/* An end needs a dense C of the stored dtype. */
static inline bool gd_matmul_end_fits(const gd_matmul *a) {
  return a->end == GD_MATMUL_PLAIN || (a->kept && a->c_dtype == a->dtype && a->ldc == a->n);
}

/* Rotary positions (Su et al. 2021), halves convention: elements i and i + D/2 of a head turn by position * theta^(-2i/D), or
 * as `rope` changes that. In place on `heads` neighbouring heads of each row. Position of row r: positions[r], or
 * (first_position + r % period). */
typedef struct gd_rotary {
  gd_dtype dtype;
  int64_t rows, ld;
  int32_t heads, head_size;
  float theta;
  gd_rope rope;
  void *x;
  const int32_t *positions; /* [rows] or NULL */
  int64_t first_position, period;
  bool inverse; /* backward */
} gd_rotary;

/* out[row] = W[token] + 0, where the token's row is among the blocks here, else +0; float32. W block j (of `blocks`,
 * first_block on) holds rows (first_block + j) * block_rows ... and starts at weight + j * block_stride. */
typedef struct gd_embedding {
  gd_dtype dtype;
  int64_t rows, width;
  const int32_t *tokens; /* [rows] */
  int32_t first_block, blocks;
  int64_t block_rows, block_stride;
  const void *weight;
  float *out; /* forward: [rows][width] */
  /* backward: gradient[token] (+)= TREE over the leaves holding it of (CHAIN over the rows of dx); the rows of other tokens are
   * written +0 (accumulate: left alone; else old value + tree). */
  int64_t leaf_rows; /* rows a leaf; the last one may have fewer */
  const void *dx;    /* [rows][width] stored */
  float *gradient;   /* blocks laid out as weight; float32 */
  bool accumulate;
} gd_embedding;

/* out = round(dropout(sum + bias + table[t]) + residual): the end of a row-parallel product or an embedding; and, in the same
 * pass, the norm of what was stored. */
typedef struct gd_rows_finish {
  gd_dtype dtype;
  int64_t rows, width;
  const float *sum;  /* [rows][width] */
  const void *bias;  /* [width] stored or NULL */
  const void *table; /* [period][width] stored, row positions[r], or (first_row + r) % period; or NULL: learned positions */
  const int32_t *positions; /* [rows] or NULL */
  int64_t period;
  int64_t first_row; /* global row of row 0 (global sequence * T + t): index of the dropout mask */
  float dropout;
  gd_rng rng;
  const void *residual; /* [rows][width] stored or NULL; may be out */
  void *out;
  gd_norm_args norm; /* y set: norm_forward of it, whose x is out; dtype, rows and width are those above */
} gd_rows_finish;

/* The norm that follows, whole. */
static inline gd_norm_args gd_norm_of_rows(const gd_rows_finish *a) {
  gd_norm_args norm = a->norm;
  norm.dtype = a->dtype;
  norm.rows = a->rows;
  norm.width = a->width;
  norm.x = a->out;
  return norm;
}

/* dx = round(mask(dy) / (1 - p)), the same indices as gd_rows_finish; dx may be dy. */
typedef struct gd_dropout_backward {
  gd_dtype dtype;
  int64_t rows, width, first_row;
  float dropout;
  gd_rng rng;
  const void *dy;
  void *dx;
} gd_dropout_backward;

/* Softmax attention without a T x T matrix (Dao et al. 2022, Dao 2023): key tiles at absolute multiples of one constant, online
 * softmax, a row independent of its query tile. Query row i of sequence b is q + b * q_batch + i * q_row + head * D; keys and
 * values likewise; query head h reads key/value head h / (heads / kv_heads). */
typedef struct gd_attention {
  gd_dtype dtype;
  int32_t batch, heads, kv_heads, head_size;
  int32_t query_length, key_length;
  const void *q, *k, *v;
  int64_t q_row, q_batch, kv_row, kv_batch; /* elements */
  void *out;                                /* forward */
  int64_t out_row, out_batch;
  float *lse; /* [batch][heads][query_length]: log of the sum of exp; written by forward */
  float scale;
  /* Query i stands at positions[i] (NULL: query_start + i) and sees keys max(first, 0) .. position, and all keys below
   * prefix_length; first = document_starts[b * query_length + i] (NULL: 0). */
  const int32_t *positions;
  int32_t query_start, prefix_length;
  const int32_t *document_starts;
  /* forward, for a cache of keys and values: sequence b reads slots[b] in place of b, its query i stands at starts[b] + i, and
   * it has starts[b] + query_length keys. Both [batch], or both NULL. */
  const int32_t *slots, *starts;
  /* Dropout of the weights: element (((first_sequence + b) * all_heads + first_head + h) * query_total + position) * key_total
   * + key. */
  float dropout;
  gd_rng rng;
  int64_t first_sequence, first_head, all_heads, query_total, key_total;
  /* backward: dq by CHAIN over key tiles ascending; dk, dv by TREE over time blocks (of time_block absolute positions; 0: one)
   * of TREE over query blocks in it (of query_block rows; 0: one) of TREE over the query heads of the group of CHAINs over
   * rows. positions must ascend. dq, dk, dv are laid out as q, k, v and are other memory. */
  int32_t query_block, time_block;
  const void *dout; /* as out */
  void *dq, *dk, *dv;
  float *delta; /* scratch [batch][heads][query_length]: ROW SUMS of dout * out */
} gd_attention;

/* Keys and values of new rows to their places in a cache: cache[(slots[r] * capacity + positions[r]) * width + i] = x[r * ld +
 * i], i < width. */
typedef struct gd_cache_rows {
  gd_dtype dtype; /* of both: stored */
  int64_t rows, width, ld;
  const void *x;
  const int32_t *slots, *positions; /* [rows]; no two rows have one place */
  int64_t capacity;                 /* rows of a slot */
  void *cache;
} gd_cache_rows;

/* Cross entropy over a vocabulary cut into blocks. Rows of logits [rows][block_columns], one call a block; loss_whole: one call
 * for all blocks where they are all here, which comes to loss_max, loss_exponentials, the trees over blocks, loss_rows and
 * loss_gradient, in one pass over the logits. */
typedef struct gd_loss {
  gd_dtype dtype;        /* of dlogits: stored */
  int64_t rows, columns; /* columns of this block in memory */
  int64_t first_column;  /* vocabulary index of column 0 */
  int64_t valid_columns; /* the rest is padding and takes no part */
  float *logits;         /* [rows][ld] float32 */
  int64_t ld;
  const int32_t *targets; /* [rows] */
  const float *weights;   /* [rows]; 0 = no target */
  /* loss_max: [rows] = max(row_max, block's max), NaN passed over, a zero made +0; the caller starts it below all logits */
  float *row_max;
  float *block_sum;            /* loss_exponentials: [rows] = ROW SUM over the block of exp(logit - row_max); logits := exp */
  float *block_target;         /* [rows]: target's logit - row_max if it is in this block, else +0 */
  float *row_sum, *row_target; /* loss_gradient: [rows], tree sums over all blocks; loss_whole writes them */
  void *dlogits; /* [rows][dld] stored: (exp / row_sum - onehot) * weight; padding columns +0; may be logits when float32 */
  int64_t dld;
  float *row_loss; /* loss_rows: [rows] = weight * (log(row_sum) - row_target) */
  /* Label smoothing (Szegedy et al. 2016), 0: none: block_target is (1 - smoothing) * its own + spread * ROW SUM over the block
   * of (logit - row_max), and the gradient (exp / row_sum - spread - (1 - smoothing) * onehot) * weight. spread: smoothing / V.
   */
  float smoothing, spread;
  /* loss_whole: block 0 begins at column first_column, the others follow; valid_columns of all of them together. Block j has
   * logits + j * block_stride and dlogits + j * dblock_stride (NULL: no gradient). It writes row_max, which need not be set,
   * block_sum and block_target, [blocks][rows] both, and leaves the logits undefined. */
  int32_t blocks;
  int64_t block_stride, dblock_stride; /* elements of logits, of dlogits */
} gd_loss;

/* Where the largest logit of a row begins: below every finite one. Each of its bytes is 0xFE. */
#define GD_LOSS_LEAST (-0x1.fdfdfcp+126f)

/* Block `block` of a call of loss_whole, as the calls of one block take it. */
static inline gd_loss gd_loss_block(const gd_loss *whole, int32_t block) {
  gd_loss a = *whole;
  int64_t valid = whole->valid_columns - block * whole->columns;
  a.first_column += block * whole->columns;
  a.valid_columns = valid < 0 ? 0 : valid < whole->columns ? valid : whole->columns;
  a.logits += block * whole->block_stride;
  a.block_sum += block * whole->rows;
  a.block_target += block * whole->rows;
  if (a.dlogits) a.dlogits = (char *)a.dlogits + (size_t)(block * whole->dblock_stride) * gd_dtype_bytes(whole->dtype);
  return a;
}

/* Cross entropy of each output by itself: with y = label * (1 - smoothing) + smoothing / 2 and w = weight / columns
 *   row_loss[row] = w * ROW SUM over the columns of (max(z, 0) - z * y + log(1 + exp(-|z|)))
 *   dlogits[row][column] = (1 / (1 + exp(-z)) - y) * w    stored; may be logits when float32, or narrower in their place */
typedef struct gd_label_loss_args {
  gd_dtype dtype;
  int64_t rows, columns;
  const float *logits; /* [rows][ld] */
  int64_t ld;
  const float *labels;  /* [rows][columns], 0 to 1 */
  const float *weights; /* [rows] */
  float smoothing;
  float *row_loss; /* [rows] */
  void *dlogits;   /* [rows][dld] stored; NULL: none */
  int64_t dld;
} gd_label_loss_args;

/* Rows by number. rows_pick: to[i] = from[index[i] - first], zeros where that is no row of from's `size`. rows_put: to[index[i]
 * - first] = from[i], where that is one of to's `size`; others are left alone, no index comes twice. */
typedef struct gd_rows_pick {
  gd_dtype dtype;
  int64_t count, width;
  const int32_t *index; /* [count] */
  int64_t first, size;
  const void *from;
  void *to;
} gd_rows_pick;

/* per sequence: sums[2 s] = CHAIN over t of row_loss, sums[2 s + 1] = CHAIN over t of weights. */
typedef struct gd_loss_sums {
  int64_t sequences, length;
  const float *row_loss, *weights;
  float *sums;
} gd_loss_sums;

/* What a step comes to, on the device; the optimizer kernel obeys it, then the host reads it. */
typedef struct gd_verdict {
  int32_t
      apply; /* 0: a non-finite loss or gradient norm, or calls that differ; nothing is updated and the step does not count */
  int32_t reserved;
  int64_t applied_steps;       /* after this step; the t of Adam's bias correction */
  int64_t bad_steps;           /* consecutive skipped ones, this included */
  double loss_sum, weight_sum; /* over the global batch, TREE over sequences */
  double gradient_norm;        /* of the mean loss, before clipping; 0: no target, which is not applied either */
  float scale;                 /* clip coefficient / weight_sum: multiplies every gradient in the update */
  float bias1, bias2;          /* 1 - beta^t */
} gd_verdict;

/* sums[u] = ROW SUM of the squares of unit u (GD_UNIT_ELEMS elements). */
typedef struct gd_unit_squares {
  int64_t units;
  const float *gradient;
  float *sums;
} gd_unit_squares;

/* out[i] = TREE in double over sums[first[i]] to sums[first[i] + count[i] - 1]; count[i] is a power of two. */
typedef struct gd_unit_nodes {
  int64_t nodes, units; /* units: there are in sums */
  const float *sums;
  const int32_t *first, *count; /* [nodes] */
  double *out;
} gd_unit_nodes;

/* out[i] = TREE in double over parts first[i] to first[i + 1] - 1, complete nodes of it: part k is nodes[from[k]] and begins at
 * leaf leaf[k], ascending. */
typedef struct gd_node_sums {
  int64_t sums, parts;
  const int32_t *first;       /* [sums + 1] */
  const int32_t *from, *leaf; /* [parts] */
  const double *nodes;
  double *out; /* [sums]; none of the parts */
} gd_node_sums;

/* *bad = 1 where a value is not finite; else it stays as it is. */
typedef struct gd_finite {
  int64_t elements;
  const float *values;
  int64_t *bad;
} gd_finite;

/* Ends a step's sums in double: norm = sqrt(CHAIN over the tensors of their sums of squares). */
typedef struct gd_vote {
  int32_t tensors;
  const double *squares;      /* [tensors] */
  const float *sequence_sums; /* [2 * sequences]: as gd_loss_sums, the global batch in order */
  int64_t sequences;
  float clip; /* 0 = off */
  float beta1, beta2;
  const int64_t
      *calls; /* NULL, or one number: what of it GD_CALLS_SUM_MASK covers (comm/session.h) is 0, or nothing is applied */
  const int64_t *bad;  /* NULL, or one number: 0, or a rank's gradient is not finite and so the norm is not */
  gd_verdict *verdict; /* applied_steps and bad_steps are read and updated */
} gd_vote;

/* One optimizer step on a flat range; a gradient of -0 counts as +0. AdamW (Loshchilov and Hutter 2019, algorithm 2; bias1,
 * bias2 and the gradient's scale from the verdict) or SGD with momentum (momentum buffer = first). Does nothing where
 * verdict->apply is 0. */
typedef struct gd_update {
  gd_optimizer_kind kind;
  int64_t elements; /* a multiple of GD_UNIT_ELEMS */
  float *master;    /* float32 weights */
  void *parameter;  /* stored copy to write; NULL where master is the parameter (float32 runs) */
  gd_dtype dtype;
  float *first, *second; /* moments; second NULL for SGD */
  const float *gradient;
  const uint8_t *decay; /* [elements / GD_UNIT_ELEMS]: 1 = weight decay applies */
  const gd_verdict *verdict;
  float lr, beta1, beta2, epsilon, weight_decay, momentum;
  bool nesterov; /* SGD: the step is gradient + momentum * (the new momentum buffer) */
} gd_update;

typedef struct gd_kernels_ops {
  const char *name; /* "cpu-avx512bf16", "cuda" ... */
  bool bfloat16;    /* has bfloat16 products */
  bool epilogues;   /* in `fast` a bfloat16 product with an end may be one pass */
  gd_status (*matmul)(gd_kernels *, const gd_matmul *);
  gd_status (*norm_forward)(gd_kernels *, const gd_norm_args *);
  gd_status (*norm_backward)(gd_kernels *, const gd_norm_args *);
  gd_status (*tree_sum)(gd_kernels *, const gd_tree_sum *);
  gd_status (*column_sums)(gd_kernels *, const gd_column_sums *);
  gd_status (*activation_forward)(gd_kernels *, const gd_activation_args *);
  gd_status (*activation_backward)(gd_kernels *, const gd_activation_args *);
  gd_status (*rotary)(gd_kernels *, const gd_rotary *);
  gd_status (*embedding_forward)(gd_kernels *, const gd_embedding *);
  gd_status (*embedding_backward)(gd_kernels *, const gd_embedding *);
  gd_status (*rows_finish)(gd_kernels *, const gd_rows_finish *);
  gd_status (*dropout_backward)(gd_kernels *, const gd_dropout_backward *);
  gd_status (*attention_forward)(gd_kernels *, const gd_attention *);
  gd_status (*attention_backward)(gd_kernels *, const gd_attention *);
  gd_status (*cache_rows)(gd_kernels *, const gd_cache_rows *);
  gd_status (*loss_max)(gd_kernels *, const gd_loss *);
  gd_status (*loss_exponentials)(gd_kernels *, const gd_loss *);
  gd_status (*loss_gradient)(gd_kernels *, const gd_loss *);
  gd_status (*loss_rows)(gd_kernels *, const gd_loss *);
  gd_status (*loss_whole)(gd_kernels *, const gd_loss *);
  gd_status (*loss_sums)(gd_kernels *, const gd_loss_sums *);
  gd_status (*label_loss)(gd_kernels *, const gd_label_loss_args *);
  gd_status (*rows_pick)(gd_kernels *, const gd_rows_pick *);
  gd_status (*rows_put)(gd_kernels *, const gd_rows_pick *);
  gd_status (*unit_squares)(gd_kernels *, const gd_unit_squares *);
  gd_status (*unit_nodes)(gd_kernels *, const gd_unit_nodes *);
  gd_status (*node_sums)(gd_kernels *, const gd_node_sums *);
  gd_status (*finite)(gd_kernels *, const gd_finite *);
  gd_status (*vote)(gd_kernels *, const gd_vote *);
  gd_status (*update)(gd_kernels *, const gd_update *);
  /* y[i] = x[i] in another dtype (float32 <-> bfloat16). */
  gd_status (*convert)(gd_kernels *, gd_dtype to_dtype, void *to, gd_dtype from_dtype, const void *from, int64_t elements);
  /* y[i] = y[i] + x[i], float32. */
  gd_status (*add)(gd_kernels *, float *y, const float *x, int64_t elements);
  gd_status (*open)(gd_kernels *); /* takes scratch memory into state */
  void (*close)(gd_kernels *);
} gd_kernels_ops;

struct gd_kernels {
  const gd_kernels_ops *ops;
  gd_device *device;
  gd_stream *stream; /* where they run: the device's compute stream; the sums of gradients: trainer/reduce_gradients.c */
  int32_t threads;   /* CPU: OpenMP threads of a kernel */
  bool fast;         /* numerics: fast: a CUDA product may take the library's order and split (gd_kernels_open: false) */
  void *state;
  struct gd_profile *profile; /* of wrappers in ops (kernels/profile.h), else NULL */
};

/* The table for a device: on the CPU the best instruction set of this processor, or the one GPTDIST_ISA names (generic, avx2,
 * avx512, avx512bf16; GD_USAGE when the processor lacks it); on CUDA the shared object's, which is `cuda`
 * (gd_session_cuda_kernels; NULL where the device is no CUDA device). threads >= 1. Local. */
GD_CHECKED gd_status gd_kernels_open(gd_device *device, const gd_kernels_ops *cuda, int32_t threads, gd_kernels *out);
void gd_kernels_close(gd_kernels *kernels);

/* The measured matrix peak: floating-point operations a second of `threads` threads that multiply and add in registers
 * (bfloat16: pair products; 0 where the processor has none). Takes about 20 ms. CPU only. Local. */
double gd_kernels_peak_flops(gd_dtype dtype, int32_t threads);
/* The same of a GPU by its name ("NVIDIA H100 80GB HBM3"): the vendor's figure, dense; 0: an unknown GPU, or a part of one.
 * Local. */
double gd_gpu_peak_flops(const char *name, gd_dtype dtype);

#endif
