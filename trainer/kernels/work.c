/* work.c - bytes and operations of each kernel, counted from its formula. */
#include "trainer/kernels/work.h"

enum { FLOAT_BYTES = sizeof(float), DOUBLE_BYTES = sizeof(double), INDEX_BYTES = sizeof(int32_t) };

static double bytes_of(gd_dtype dtype) {
  return (double)gd_dtype_bytes(dtype);
}

static double product(int64_t a, int64_t b) {
  return (double)a * (double)b;
}

gd_work gd_work_matmul(const gd_matmul *a) {
  double k = product(a->k, a->leaves), m = (double)a->m, n = (double)a->n;
  double read = (m + n) * k * bytes_of(a->dtype) + (a->bias ? n * bytes_of(a->dtype) : 0);
  double kept = a->end == GD_MATMUL_PLAIN ? 0 : m * n * bytes_of(a->dtype);
  return (gd_work){read + kept + m * n * bytes_of(a->c_dtype) * (a->accumulate ? 2 : 1), 2 * m * n * k};
}

gd_work gd_work_norm_forward(const gd_norm_args *a) {
  bool layer = a->kind == GD_NORM_LAYERNORM;
  double elements = product(a->rows, a->width), vectors = (double)a->width * (a->bias ? 2 : 1);
  double statistics = (double)a->rows * FLOAT_BYTES * (a->mean ? 2 : 1);
  /* mean 1, variance 3 (rms: 2), the normalised value 2 (rms: 1), weight 1, bias 1 */
  double operations = elements * ((layer ? 7 : 4) + (a->bias ? 1 : 0));
  return (gd_work){(2 * elements + vectors) * bytes_of(a->dtype) + statistics, operations};
}

gd_work gd_work_norm_backward(const gd_norm_args *a) {
  bool layer = a->kind == GD_NORM_LAYERNORM;
  double elements = product(a->rows, a->width), width = (double)a->width;
  double statistics = (double)a->rows * FLOAT_BYTES * (a->mean ? 2 : 1);
  int written = (a->dweight_leaves ? 1 : 0) + (a->dbias_leaves ? 1 : 0);
  double leaves = product(GD_LEAVES(a->rows, a->leaf_rows), a->width) * FLOAT_BYTES * written;
  double stored = elements * (a->dresidual ? 4 : 3) + width;
  /* dy weight 1, the normalised value 2 (rms: 1), its mean 2 and that of dy weight 1 (rms: 0), dx 4 (rms: 3), dweight 2 */
  double operations =
      elements * ((layer ? 10 : 7) + (a->dweight_leaves ? 2 : 0) + (a->dbias_leaves ? 1 : 0) + (a->dresidual ? 1 : 0));
  return (gd_work){stored * bytes_of(a->dtype) + statistics + leaves, operations};
}

gd_work gd_work_tree_sum(const gd_tree_sum *a) {
  double old = a->accumulate ? 1 : 0, elements = (double)a->elements, leaves = (double)a->leaves;
  return (gd_work){elements * (leaves * bytes_of(a->dtype) + (1 + old) * FLOAT_BYTES), elements * (leaves - 1 + old)};
}

gd_work gd_work_column_sums(const gd_column_sums *a) {
  double elements = product(a->rows, a->width), leaves = product(GD_LEAVES(a->rows, a->leaf_rows), a->width);
  return (gd_work){elements * bytes_of(a->dtype) + leaves * FLOAT_BYTES, elements};
}

gd_work gd_work_activation_forward(const gd_activation_args *a) {
  double elements = product(a->rows, a->width);
  bool gated = a->kind == GD_ACTIVATION_SWIGLU;
  /* gelu_tanh: x / (1 + exp(c x (1 + d x^2))); gelu: x (1 + erf(x / sqrt 2)) / 2; swiglu: gate / (1 + exp(-gate)) up */
  double operations = a->kind == GD_ACTIVATION_GELU_TANH ? 8 : a->kind == GD_ACTIVATION_GELU ? 5 : 4;
  return (gd_work){elements * (gated ? 3 : 2) * bytes_of(a->dtype), elements * operations};
}

gd_work gd_work_activation_backward(const gd_activation_args *a) {
  double elements = product(a->rows, a->width);
  bool gated = a->kind == GD_ACTIVATION_SWIGLU;
  /* gelu_tanh: s = 1 / (1 + e), 8 with its exponential; slope of the exponent 2; s + x s^2 e slope 5; dy 1. gelu: the integral
   * 4, the density 4, together 2, dy 1. swiglu: s 3, y = gate s 1, dup = dy y 1, dgate = dy up (s + y (1 - s)) 5 */
  double operations = a->kind == GD_ACTIVATION_GELU_TANH ? 16 : a->kind == GD_ACTIVATION_GELU ? 11 : 10;
  return (gd_work){elements * (gated ? 5 : 3) * bytes_of(a->dtype), elements * operations};
}

gd_work gd_work_rotary(const gd_rotary *a) {
  double elements = product(a->rows, (int64_t)a->heads * a->head_size);
  double positions = a->positions ? (double)a->rows * INDEX_BYTES : 0;
  return (gd_work){2 * elements * bytes_of(a->dtype) + positions, 3 * elements}; /* 6 a pair */
}

gd_work gd_work_embedding_forward(const gd_embedding *a) {
  double elements = product(a->rows, a->width);
  return (gd_work){elements * (bytes_of(a->dtype) + FLOAT_BYTES) + (double)a->rows * INDEX_BYTES, 0};
}

gd_work gd_work_embedding_backward(const gd_embedding *a) {
  double elements = product(a->rows, a->width), table = product(a->blocks * a->block_rows, a->width);
  double gradient = a->accumulate ? 2 * elements : table;
  return (gd_work){elements * bytes_of(a->dtype) + gradient * FLOAT_BYTES + (double)a->rows * INDEX_BYTES, elements};
}

gd_work gd_work_rows_finish(const gd_rows_finish *a) {
  double elements = product(a->rows, a->width);
  int64_t period = a->period > 0 && a->period < a->rows ? a->period : a->rows; /* rows of the table that are read */
  double stored = elements * (a->residual ? 2 : 1);
  if (a->bias) stored += (double)a->width;
  if (a->table) stored += product(a->positions ? a->rows : period, a->width);
  int operations = (a->bias ? 1 : 0) + (a->table ? 1 : 0) + (a->dropout > 0 ? 1 : 0) + (a->residual ? 1 : 0);
  double positions = a->positions ? (double)a->rows * INDEX_BYTES : 0;
  gd_work work = {elements * FLOAT_BYTES + stored * bytes_of(a->dtype) + positions, elements * operations};
  if (!a->norm.y) return work;
  gd_norm_args norm = gd_norm_of_rows(a);
  gd_work more = gd_work_norm_forward(&norm);
  return (gd_work){work.bytes + more.bytes - elements * bytes_of(a->dtype), work.operations + more.operations}; /* x is here */
}

gd_work gd_work_dropout_backward(const gd_dropout_backward *a) {
  double elements = product(a->rows, a->width);
  return (gd_work){2 * elements * bytes_of(a->dtype), elements};
}

/* Pairs of a query and a key that it sees, of one head of one sequence. */
static double pairs(const gd_attention *a) {
  double sum = 0;
  for (int32_t i = 0; i < a->query_length; i++) {
    int32_t seen = a->query_start + i + 1;
    if (seen < a->prefix_length) seen = a->prefix_length;
    sum += seen < a->key_length ? seen : a->key_length;
  }
  return sum;
}

/* `queries` tensors of the queries' shape, `keys` of the keys', `rows` floats a query. */
static gd_work attention(const gd_attention *a, double queries, double keys, double rows, double operations) {
  double query_rows = product((int64_t)a->batch * a->heads, a->query_length), width = (double)a->head_size;
  double key_rows = product((int64_t)a->batch * a->kv_heads, a->key_length);
  double documents = a->document_starts ? product(a->batch, a->query_length) * INDEX_BYTES : 0;
  double positions = a->positions ? (double)a->query_length * INDEX_BYTES : 0;
  double stored = (queries * query_rows + keys * key_rows) * width * bytes_of(a->dtype);
  return (gd_work){stored + rows * query_rows * FLOAT_BYTES + documents + positions,
                   operations * width * product(a->batch, a->heads) * pairs(a)};
}

gd_work gd_work_attention_forward(const gd_attention *a) {
  return attention(a, 2, 2, 1, 4); /* q, out; k, v; lse */
}

gd_work gd_work_attention_backward(const gd_attention *a) {
  return attention(a, 4, 4, 2, 10); /* q, out, dout, dq; k, v, dk, dv; lse, delta */
}

gd_work gd_work_cache_rows(const gd_cache_rows *a) {
  return (gd_work){2 * product(a->rows, a->width) * bytes_of(a->dtype) + 2 * (double)a->rows * INDEX_BYTES, 0};
}

/* `passes` over the true logits of a block, `arrays` of a number a row. */
static gd_work loss(const gd_loss *a, double passes, double arrays, double operations) {
  double elements = product(a->rows, a->valid_columns);
  return (gd_work){(passes * elements + arrays * (double)a->rows) * FLOAT_BYTES, operations * elements};
}

gd_work gd_work_loss_max(const gd_loss *a) {
  return loss(a, 1, 2, 1); /* row_max is read and written */
}

gd_work gd_work_loss_exponentials(const gd_loss *a) {
  return loss(a, 2, 4, 3); /* row_max, targets, block_sum, block_target; less the maximum, exp, sum */
}

gd_work gd_work_loss_gradient(const gd_loss *a) {
  gd_work work = loss(a, 1, 3, 2); /* row_sum, targets, weights; divided, weighted */
  work.bytes += product(a->rows, a->columns) * bytes_of(a->dtype);
  return work;
}

gd_work gd_work_loss_rows(const gd_loss *a) {
  return (gd_work){4 * (double)a->rows * FLOAT_BYTES, 3 * (double)a->rows};
}

gd_work gd_work_loss_whole(const gd_loss *a) {
  /* targets, weights; row_max, row_sum, row_target, row_loss; block_sum and block_target of each block. Operations of the four
   * calls. */
  gd_work work = loss(a, 1, 6 + 2 * (double)a->blocks, a->dlogits ? 6 : 4);
  if (a->dlogits) work.bytes += product(a->rows, a->columns * a->blocks) * bytes_of(a->dtype);
  return work;
}

gd_work gd_work_loss_sums(const gd_loss_sums *a) {
  double rows = product(a->sequences, a->length);
  return (gd_work){2 * (rows + (double)a->sequences) * FLOAT_BYTES, 2 * rows};
}

gd_work gd_work_label_loss(const gd_label_loss_args *a) {
  double elements = product(a->rows, a->columns), stored = a->dlogits ? elements * bytes_of(a->dtype) : 0;
  /* label 2, exponential, loss 5, sum; gradient: exponential, 2, less the label, weighted */
  return (gd_work){2 * (elements + (double)a->rows) * FLOAT_BYTES + stored, elements * (a->dlogits ? 14 : 9)};
}

static gd_work moved_rows(const gd_rows_pick *a) {
  return (gd_work){2 * product(a->count, a->width) * bytes_of(a->dtype) + (double)a->count * INDEX_BYTES, 0};
}

gd_work gd_work_rows_pick(const gd_rows_pick *a) {
  return moved_rows(a);
}

gd_work gd_work_rows_put(const gd_rows_pick *a) {
  return moved_rows(a);
}

gd_work gd_work_unit_squares(const gd_unit_squares *a) {
  double elements = product(a->units, GD_UNIT_ELEMS);
  return (gd_work){(elements + (double)a->units) * FLOAT_BYTES, 2 * elements};
}

gd_work gd_work_unit_nodes(const gd_unit_nodes *a) {
  double units = (double)a->units, nodes = (double)a->nodes;
  return (gd_work){units * FLOAT_BYTES + nodes * (2 * INDEX_BYTES + DOUBLE_BYTES), units};
}

gd_work gd_work_node_sums(const gd_node_sums *a) {
  double sums = (double)a->sums, parts = (double)a->parts;
  return (gd_work){parts * (2 * INDEX_BYTES + DOUBLE_BYTES) + (sums + 1) * INDEX_BYTES + sums * DOUBLE_BYTES, parts};
}

gd_work gd_work_finite(const gd_finite *a) {
  return (gd_work){(double)a->elements * FLOAT_BYTES, (double)a->elements};
}

gd_work gd_work_vote(const gd_vote *a) {
  double sums = 2 * (double)a->sequences, tensors = (double)a->tensors;
  return (gd_work){sums * FLOAT_BYTES + tensors * DOUBLE_BYTES, sums + tensors};
}

gd_work gd_work_update(const gd_update *a) {
  bool adamw = a->kind == GD_OPTIMIZER_ADAMW;
  double elements = (double)a->elements, moments = (a->first ? 1 : 0) + (a->second ? 1 : 0);
  double bytes = elements * (1 + 2 + 2 * moments) * FLOAT_BYTES; /* the gradient is read, the others are written too */
  if (a->parameter) bytes += elements * bytes_of(a->dtype);
  if (a->decay) bytes += elements / GD_UNIT_ELEMS;
  /* scale 1, decay 2; AdamW: first moment 3, second 4, denominator 3, step 4; SGD: momentum 2, Nesterov's look ahead 2, step 2
   */
  return (gd_work){bytes, elements * (3 + (adamw ? 14 : !a->first ? 2 : a->nesterov ? 6 : 4))};
}

gd_work gd_work_convert(gd_dtype to_dtype, gd_dtype from_dtype, int64_t elements) {
  return (gd_work){(double)elements * (bytes_of(to_dtype) + bytes_of(from_dtype)), 0};
}

gd_work gd_work_add(int64_t elements) {
  return (gd_work){3 * (double)elements * FLOAT_BYTES, (double)elements};
}
