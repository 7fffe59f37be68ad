/* activations.c - every tensor a micro-batch holds, with its place in the activation arena (kept from forward to backward) or
 * in the workspace arena (one layer's, or the head's: the two never live together, so they share their bytes). */
#include <stddef.h>
#include <string.h>

#include "shard/base/round.h"
#include "shard/deal.h"
#include "shard/layout.h"
#include "shard/schedule.h"

enum { ALIGN_BYTES = 256 };

const char *gd_lifetime_name(gd_lifetime lifetime) {
  static const char *const names[] = {"backward", "weights", "recomputed", "workspace"};
  return names[lifetime];
}

typedef enum phase { PHASE_ALWAYS, PHASE_LAYER, PHASE_HEAD } phase;

typedef struct table {
  gd_activations *out;
  int32_t layers;                    /* L */
  int64_t kept, always, layer, head; /* bytes so far */
} table;

static void put(table *t, gd_activation_id id, const char *name, const char *shape, gd_dtype dtype, int64_t elements) {
  gd_activation_entry *e = &t->out->entries[id];
  *e = (gd_activation_entry){.name = name, .shape = shape, .dtype = dtype, .copies = 1, .elements = elements};
  e->stride = gd_round_up(elements * (int64_t)gd_dtype_bytes(dtype), ALIGN_BYTES);
}

/* Kept in the activation arena; of one copy every layer writes over that of the layer before it. */
static void keep(table *t, gd_activation_id id, const char *name, const char *shape, gd_dtype dtype, int64_t elements,
                 int32_t copies) {
  put(t, id, name, shape, dtype, elements);
  gd_activation_entry *e = &t->out->entries[id];
  e->copies = copies;
  e->offset = t->kept;
  t->kept += copies * e->stride;
  if (copies == 1) e->stride = 0;
}

static void keep_for_weights(table *t, gd_activation_id id, const char *name, const char *shape, gd_dtype dtype,
                             int64_t elements) {
  keep(t, id, name, shape, dtype, elements, 1);
  t->out->entries[id].lifetime = GD_KEPT_FOR_WEIGHTS;
}

static void work(table *t, gd_activation_id id, phase when, const char *name, const char *shape, gd_dtype dtype,
                 int64_t elements) {
  put(t, id, name, shape, dtype, elements);
  gd_activation_entry *e = &t->out->entries[id];
  e->lifetime = GD_WORKSPACE;
  int64_t *at = when == PHASE_ALWAYS ? &t->always : when == PHASE_LAYER ? &t->layer : &t->head;
  e->offset = *at;
  *at += e->stride;
  e->stride = when; /* kept until the phases' starts are known */
}

/* A copy for each layer from `first` on; the layers below write over the first of them. Where no layer keeps its own it is
 * workspace. */
static void keep_layers(table *t, gd_activation_id id, int32_t first, const char *name, const char *shape, gd_dtype dtype,
                        int64_t elements) {
  if (first == t->layers) {
    work(t, id, PHASE_LAYER, name, shape, dtype, elements);
    return;
  }
  keep(t, id, name, shape, dtype, elements, t->layers - first);
  t->out->entries[id].first_layer = first;
}

static void keep_layers_for_weights(table *t, gd_activation_id id, int32_t first, const char *name, const char *shape,
                                    gd_dtype dtype, int64_t elements) {
  keep_layers(t, id, first, name, shape, dtype, elements);
  if (first < t->layers) t->out->entries[id].lifetime = GD_KEPT_FOR_WEIGHTS;
}

/* The lowest layer that keeps the input of a product: that of the first one whose weight learns. */
static int32_t first_trained(const gd_layout *layout, size_t weight) {
  int32_t layer = 0, parameter;
  for (; layer < layout->shape.layers; layer++) {
    memcpy(&parameter, (const char *)&layout->layers[layer] + weight, sizeof parameter);
    if (gd_layout_trains(layout, parameter)) break;
  }
  return layer;
}

/* Elements of a block of the longest vector that learns. */
static int64_t longest_vector(const gd_layout *layout) {
  int64_t longest = 0;
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    const gd_parameter *p = &layout->parameters[i];
    if (p->trained && !p->decay && p->block_rows > longest) longest = p->block_rows;
  }
  return longest;
}

/* Bytes of the head's workspace that a row of a strip takes: its logits here, and what the loss knows of it. */
static int64_t head_row_bytes(const gd_shape *s) {
  return 4 * (s->blocks * s->block_vocabulary + 2 * s->all_blocks + 3);
}

/* invariant: sums of strips that wait for their siblings besides the one in the gradient's slot, one a level of the tree above
 * the strips. */
static int64_t head_sums(const gd_layout *layout, int64_t rows, int64_t head_rows) {
  int64_t sums = 0;
  if (layout->spec.numerics == GD_NUMERICS_INVARIANT && gd_layout_trains(layout, layout->head))
    for (; 2 * head_rows <= rows; head_rows *= 2) sums++;
  return sums;
}

static int64_t head_gradient_elements(const gd_layout *layout) {
  const gd_parameter *head = &layout->parameters[layout->head];
  return head->blocks * head->block_elems;
}

static int64_t head_bytes(const gd_layout *layout, int64_t rows, int64_t head_rows) {
  return head_rows * head_row_bytes(&layout->shape) + head_sums(layout, rows, head_rows) * head_gradient_elements(layout) * 4;
}

/* A strip reads and writes a gradient of the head's size: below LEAST_HEAD_ROWS that would cost more than the memory is worth.
 */
enum { LEAST_HEAD_ROWS = 1024, HEAD_ROWS_STEP = 256 };

/* free_bytes: what the head may take without making the workspace larger. */
static int64_t choose_head_rows(const gd_layout *layout, int64_t rows, int64_t free_bytes) {
  int64_t chosen = layout->shape.time_block;
  if (layout->spec.numerics == GD_NUMERICS_INVARIANT) {
    while (2 * chosen <= rows) chosen *= 2;
    while (chosen / 2 >= layout->shape.time_block && chosen / 2 >= LEAST_HEAD_ROWS &&
           head_bytes(layout, rows, chosen) > free_bytes &&
           head_bytes(layout, rows, chosen / 2) < head_bytes(layout, rows, chosen))
      chosen /= 2;
    return chosen;
  }
  int64_t most = free_bytes / head_row_bytes(&layout->shape) / HEAD_ROWS_STEP * HEAD_ROWS_STEP;
  if (most < LEAST_HEAD_ROWS) most = LEAST_HEAD_ROWS;
  int64_t strips = (rows + most - 1) / most;
  chosen = gd_round_up((rows + strips - 1) / strips, HEAD_ROWS_STEP); /* all about as large */
  return chosen < rows ? chosen : rows;
}

/* Of a head of the vocabulary, backward; head_rows as below. */
static void work_of_head(table *t, const gd_layout *layout, int64_t rows, int64_t head_rows) {
  const gd_shape *s = &layout->shape;
  work(t, GD_W_ROW_LOSS, PHASE_HEAD, "loss of a row", "[B*T]", GD_FLOAT32, rows);
  if (head_rows == 0) head_rows = choose_head_rows(layout, rows, t->layer - t->head);
  t->out->head_rows = head_rows;
  work(t, GD_W_LOGITS, PHASE_HEAD, "logits", "[blocks][strip][V/R]", GD_FLOAT32, s->blocks * head_rows * s->block_vocabulary);
  work(t, GD_W_ROW_MAX, PHASE_HEAD, "largest logit", "[strip]", GD_FLOAT32, head_rows);
  work(t, GD_W_BLOCK_SUM, PHASE_HEAD, "sums of exp", "[R][strip]", GD_FLOAT32, s->all_blocks * head_rows);
  work(t, GD_W_BLOCK_TARGET, PHASE_HEAD, "target logits", "[R][strip]", GD_FLOAT32, s->all_blocks * head_rows);
  work(t, GD_W_ROW_SUM, PHASE_HEAD, "sum of exp", "[strip]", GD_FLOAT32, head_rows);
  work(t, GD_W_ROW_TARGET, PHASE_HEAD, "target logit", "[strip]", GD_FLOAT32, head_rows);
  work(t, GD_W_HEAD_SUMS, PHASE_HEAD, "sums of strips", "[levels][blocks][V/R][C]", GD_FLOAT32,
       head_sums(layout, rows, head_rows) * head_gradient_elements(layout));
}

/* Of a classifier, backward. */
static void work_of_classifier(table *t, const gd_layout *layout, int64_t documents) {
  const gd_shape *s = &layout->shape;
  int64_t rows = documents * s->width;
  work(t, GD_W_ROW_LOSS, PHASE_HEAD, "loss of a document", "[documents]", GD_FLOAT32, documents);
  work(t, GD_W_LOGITS, PHASE_HEAD, "logits", "[documents][classes]", GD_FLOAT32, documents * s->class_stride);
  work(t, GD_W_ROW_MAX, PHASE_HEAD, "largest logit", "[documents]", GD_FLOAT32, documents);
  work(t, GD_W_ROW_SUM, PHASE_HEAD, "sum of exp", "[documents]", GD_FLOAT32, documents);
  work(t, GD_W_ROW_TARGET, PHASE_HEAD, "target logit", "[documents]", GD_FLOAT32, documents);
  work(t, GD_W_PICKED, PHASE_HEAD, "last rows", "[documents][C]", s->dtype, rows);
  work(t, GD_W_DPICKED, PHASE_HEAD, "gradient of last rows", "[documents][C]", s->dtype, layout->head_goes_back ? rows : 0);
}

void gd_layout_activations(const gd_layout *layout, int32_t sequences, bool backward, int64_t head_rows, gd_activations *out) {
  const gd_spec *spec = &layout->spec;
  const gd_shape *s = &layout->shape;
  gd_dtype stored = s->dtype;
  int32_t tensor = layout->mesh.size[GD_AXIS_TENSOR];
  int64_t here = s->blocks;
  memset(out, 0, sizeof *out);
  table t = {.out = out, .layers = s->layers};
  out->sequences = sequences;
  out->rows = sequences * s->sequence;
  out->rows_here = backward ? out->rows / tensor : out->rows;
  int64_t rows = out->rows, some = out->rows_here, c = s->width;
  /* The layers that go backward; without a backward all layers write over one copy. */
  int32_t lowest = backward ? layout->lowest_layer : s->layers - 1;
  int32_t qkv = lowest, up = lowest, down = lowest;
  if (backward) {
    qkv = first_trained(layout, offsetof(gd_layer_parameters, qkv_weight));
    up = first_trained(layout, offsetof(gd_layer_parameters, up_weight));
    down = first_trained(layout, offsetof(gd_layer_parameters, down_weight));
  }
  bool layers_back = backward && lowest < s->layers;

  keep(&t, GD_A_RESIDUAL, "residual", "[B*T/tensor][C]", stored, some * c, backward ? s->layers - lowest + 1 : 1);
  out->entries[GD_A_RESIDUAL].first_layer = lowest;
  keep_layers_for_weights(&t, GD_A_NORM1, qkv, "norm1", "[B*T/tensor][C]", stored, some * c);
  keep_layers(&t, GD_A_NORM1_MEAN, lowest, "norm1 mean", "[B*T/tensor]", GD_FLOAT32, some);
  keep_layers(&t, GD_A_NORM1_RSTD, lowest, "norm1 1/std", "[B*T/tensor]", GD_FLOAT32, some);
  keep_layers(&t, GD_A_QKV, lowest, "query key value", "[blocks][B*T][(H+2Hkv)*D/R]", stored, here * rows * s->qkv);
  keep_layers_for_weights(&t, GD_A_ATTENTION, lowest, "attention", "[blocks][B*T][H*D/R]", stored, here * rows * s->q);
  keep_layers(&t, GD_A_LSE, lowest, "log-sum-exp", "[blocks][B][H/R][T]", GD_FLOAT32, here * rows * s->heads);
  keep_layers(&t, GD_A_MIDDLE, lowest, "residual between", "[B*T/tensor][C]", stored, some * c);
  keep_layers_for_weights(&t, GD_A_NORM2, up, "norm2", "[B*T/tensor][C]", stored, some * c);
  keep_layers(&t, GD_A_NORM2_MEAN, lowest, "norm2 mean", "[B*T/tensor]", GD_FLOAT32, some);
  keep_layers(&t, GD_A_NORM2_RSTD, lowest, "norm2 1/std", "[B*T/tensor]", GD_FLOAT32, some);
  keep_layers(&t, GD_A_UP, lowest, "mlp up", "[blocks][B*T][F/R]", stored, here * rows * s->up);
  if (spec->recompute.activation && backward) {
    work(&t, GD_A_ACTIVATED, PHASE_LAYER, "mlp activated", "[blocks][B*T][F/R]", stored, here * rows * s->ffn);
    out->entries[GD_A_ACTIVATED].lifetime = GD_RECOMPUTED;
  } else {
    keep_layers_for_weights(&t, GD_A_ACTIVATED, down, "mlp activated", "[blocks][B*T][F/R]", stored, here * rows * s->ffn);
  }
  const bool classifies = s->classes > 0;
  const int64_t documents = classifies ? (backward ? sequences * s->chunks * s->chunk_documents : rows) : 0;
  const int64_t final = classifies ? documents : some, targets = classifies ? 0 : rows;
  const char *final_rows = classifies ? "[documents][C]" : "[B*T/tensor][C]",
             *final_row = classifies ? "[documents]" : "[B*T/tensor]";
  out->documents = documents;
  keep_for_weights(&t, GD_A_FINAL, "final norm", final_rows, stored, final * c);
  keep(&t, GD_A_FINAL_MEAN, "final mean", final_row, GD_FLOAT32, final, 1);
  keep(&t, GD_A_FINAL_RSTD, "final 1/std", final_row, GD_FLOAT32, final, 1);
  keep_for_weights(&t, GD_A_TOKENS, "tokens", "[B*T]", GD_INT32, rows);
  keep(&t, GD_A_TARGETS, "targets", "[B*T]", GD_INT32, targets, 1);
  keep(&t, GD_A_WEIGHTS, "target weights", "[B*T]", GD_FLOAT32, targets, 1);
  if (classifies && backward) {
    keep(&t, GD_A_LABEL_ROWS, "rows of labels", "[documents]", GD_INT32, documents, 1);
    keep(&t, GD_A_LABEL_GIVEN, "rows of labels, by chunks", "[documents]", GD_INT32, tensor > 1 ? documents : 0, 1);
    keep(&t, GD_A_LABEL_ORDER, "order of labels", "[documents]", GD_INT32, tensor > 1 ? documents : 0, 1);
    keep(&t, GD_A_LABELS, "labels", "[documents][columns]", GD_FLOAT32, documents * s->label_columns, 1);
    keep(&t, GD_A_LABEL_WEIGHTS, "label weights", "[documents]", GD_FLOAT32, documents, 1);
  }
  keep(&t, GD_A_DOCUMENTS, "document starts", "[B*T]", GD_INT32, spec->data.mask_documents ? rows : 0, 1);
  keep(&t, GD_A_SLOTS, "slots", "[rows]", GD_INT32, backward ? 0 : rows, 1);
  keep_for_weights(&t, GD_A_POSITIONS, "positions", "[B*T]", GD_INT32, !backward || spec->data.reset_positions ? rows : 0);

  int64_t cut = tensor > 1 ? rows * c : 0; /* inference receives whole rows of every rank */
  work(&t, GD_W_GATHERED, PHASE_ALWAYS, "gathered rows", "[B*T][C]", stored, cut);
  work(&t, GD_W_PARTIAL, PHASE_ALWAYS, "partial sums", "[B*T][C]", GD_FLOAT32, rows * c);
  work(&t, GD_W_RECEIVED, PHASE_ALWAYS, "received sums", "[tensor][B*T/tensor][C]", GD_FLOAT32, backward ? cut : cut * tensor);
  if (!backward && classifies) {
    work(&t, GD_W_LOGITS, PHASE_HEAD, "logits", "[B*T][classes]", GD_FLOAT32, rows * s->class_stride);
  } else if (!backward) { /* whole rows, and a block of another rank */
    work(&t, GD_W_LOGITS, PHASE_HEAD, "logits", "[blocks+1][B*T][V/R]", GD_FLOAT32, (here + 1) * rows * s->block_vocabulary);
  } else {
    int64_t leaves = tensor * gd_layout_leaves(layout, some), time_blocks = (int64_t)sequences * s->time_blocks;
    if (classifies && leaves < time_blocks) leaves = time_blocks; /* those of its norm */
    int64_t widest = longest_vector(layout), there = layers_back ? 1 : 0, back = layout->head_goes_back ? some * c : 0;
    work(&t, GD_W_GATHERED_GRADIENT, PHASE_ALWAYS, "gathered gradients", "[B*T][C]", stored, there * cut);
    work(&t, GD_W_DRESIDUAL, PHASE_ALWAYS, "gradient of residual", "[B*T/tensor][C]", stored, back);
    work(&t, GD_W_DNORM, PHASE_ALWAYS, "gradient of norm", "[B*T/tensor][C]", stored, back);
    work(&t, GD_W_LEAVES1, PHASE_ALWAYS, "leaves of vectors", "[leaves][widest]", GD_FLOAT32, leaves * widest);
    work(&t, GD_W_LEAVES2, PHASE_ALWAYS, "leaves of vectors", "[leaves][widest]", GD_FLOAT32, leaves * widest);
    work(&t, GD_W_DQKV, PHASE_LAYER, "gradient of qkv", "[blocks][B*T][(H+2Hkv)*D/R]", stored, there * here * rows * s->qkv);
    work(&t, GD_W_DATTENTION, PHASE_LAYER, "gradient of attention", "[blocks][B*T][H*D/R]", stored, there * here * rows * s->q);
    work(&t, GD_W_DELTA, PHASE_LAYER, "row sums of dO*O", "[B][H/R][T]", GD_FLOAT32, there * rows * s->heads);
    work(&t, GD_W_DUP, PHASE_LAYER, "gradient of mlp up", "[blocks][B*T][F/R]", stored, there * here * rows * s->up);
    work(&t, GD_W_DACTIVATED, PHASE_LAYER, "gradient of activated", "[blocks][B*T][F/R]", stored, there * here * rows * s->ffn);
    if (classifies)
      work_of_classifier(&t, layout, documents);
    else
      work_of_head(&t, layout, rows, head_rows);
  }
  for (int id = 0; id < GD_ACTIVATION_IDS; id++) {
    gd_activation_entry *e = &out->entries[id];
    if (!e->name || gd_lifetime_is_kept(e->lifetime)) continue;
    if (e->stride != PHASE_ALWAYS) e->offset += t.always;
    e->stride = 0;
  }
  out->slots = backward ? gd_schedule_slots(spec->parallel.passes, gd_deal_rounds(spec, layout->mesh.size[GD_AXIS_DATA])) : 1;
  out->slot_bytes = t.kept;
  out->kept_bytes = out->slots * out->slot_bytes;
  out->workspace_bytes = t.always + (t.layer > t.head ? t.layer : t.head);
}
