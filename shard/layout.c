/* layout.c - the tables of parameters: tensors, blocks, segments and buckets of one rank, built in the order of the arena. */
#include "shard/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/base/round.h"
#include "shard/deal.h"
#include "shard/trained.h"

/* One logical tensor's part of a parameter block: `rows` x `cols` of the tensor a block, cut along rows or columns. */
typedef struct part {
  const char *suffix;
  int64_t rows, cols;  /* of the whole logical tensor */
  int64_t memory_rows; /* rows of all blocks in memory; more than rows where the vocabulary is padded */
} part;

typedef struct builder {
  gd_layout *layout;
  int64_t at;    /* next free element of the open bucket */
  int32_t layer; /* the open bucket's */
  bool trained;  /* the open bucket's: parameters that are not so are passed over */
  int32_t tensor_capacity, parameter_capacity, segment_capacity;
} builder;

static gd_status grow(void **array, int32_t count, int32_t *capacity, size_t element_bytes) {
  if (count < *capacity) return GD_OK;
  int32_t larger = *capacity ? 2 * *capacity : 64;
  void *moved = realloc(*array, (size_t)larger * element_bytes);
  if (!moved) return gd_fail(GD_NO_MEMORY, "no memory for the layout's tables (%d entries)", larger);
  *array = moved;
  *capacity = larger;
  return GD_OK;
}

/* The stage of the pipeline whose ranks compute with a bucket of this layer (the tables': 0; final norm and head: L). */
static int32_t stage_of(const gd_layout *layout, int32_t layer) {
  int32_t stages = layout->mesh.size[GD_AXIS_PIPELINE], layers = layout->spec.model.layers;
  return layer == layers ? stages - 1 : (int32_t)((int64_t)layer * stages / layers);
}

static gd_status add_tensor(builder *b, const char *name, const part *p, bool vector, int32_t *index) {
  gd_layout *layout = b->layout;
  GD_TRY(grow((void **)&layout->tensors, layout->tensor_count, &b->tensor_capacity, sizeof *layout->tensors));
  *index = layout->tensor_count++;
  gd_tensor *tensor = &layout->tensors[*index];
  memset(tensor, 0, sizeof *tensor);
  snprintf(tensor->name, sizeof tensor->name, "%s", name);
  tensor->dims = vector ? 1 : 2;
  tensor->rows = p->rows;
  tensor->cols = p->cols;
  tensor->frozen = !b->trained;
  if (b->trained) layout->trained_elements += p->rows * p->cols;
  return GD_OK;
}

/* What a parameter made of several tensors is, all of them are; the factors of what is frozen tell nothing apart. */
static gd_status find_trained(const builder *b, const char *prefix, const part *parts, int count, bool *trained,
                              float *lr_scale) {
  char first[GD_NAME_BYTES], other[GD_NAME_BYTES];
  const gd_spec *spec = &b->layout->spec;
  snprintf(first, sizeof first, "%s%s", prefix, parts[0].suffix);
  *trained = gd_trained(spec, first);
  *lr_scale = gd_trained_lr_scale(spec, first);
  for (int i = 1; i < count; i++) {
    snprintf(other, sizeof other, "%s%s", prefix, parts[i].suffix);
    bool apart = gd_trained(spec, other) != *trained;
    if (!apart && (!*trained || gd_trained_lr_scale(spec, other) == *lr_scale)) continue;
    return gd_fail_user(GD_USAGE, "%s: tells %s from %s, which lie in one block of memory: name both or neither",
                        apart ? "finetune.train" : "optimizer.lr_scale", first, other);
  }
  return GD_OK;
}

static gd_status add_segment(builder *b, gd_segment segment) {
  gd_layout *layout = b->layout;
  if (segment.box.rows <= 0) return GD_OK; /* a block of vocabulary padding only */
  GD_TRY(grow((void **)&layout->segments, layout->segment_count, &b->segment_capacity, sizeof *layout->segments));
  layout->segments[layout->segment_count++] = segment;
  return GD_OK;
}

/* Appends a parameter made of `count` parts to the open bucket, if it is of its kind. prefix: "layers.3." or "". name: the
 * parameter's own. */
static gd_status add_parameter(builder *b, const char *prefix, const char *name, gd_cut cut, const part *parts, int count,
                               bool vector, float init_std, float init_value, int32_t *index) {
  gd_layout *layout = b->layout;
  bool trained;
  float lr_scale;
  GD_TRY(find_trained(b, prefix, parts, count, &trained, &lr_scale));
  if (trained != b->trained) return GD_OK;
  GD_TRY(grow((void **)&layout->parameters, layout->parameter_count, &b->parameter_capacity, sizeof *layout->parameters));
  *index = layout->parameter_count++;
  gd_parameter *p = &layout->parameters[*index];
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "%s%s", prefix, name);
  p->cut = cut;
  p->bucket = layout->bucket_count;
  p->all_blocks = cut == GD_CUT_NONE ? 1 : layout->shape.all_blocks;
  p->first_block = cut == GD_CUT_NONE ? 0 : layout->shape.first_block;
  p->blocks = cut == GD_CUT_NONE ? 1 : layout->shape.blocks;
  int64_t memory_rows = 0;
  for (int i = 0; i < count; i++) memory_rows += parts[i].memory_rows;
  p->block_rows = cut == GD_CUT_COLUMN ? memory_rows / p->all_blocks : memory_rows;
  p->block_cols = cut == GD_CUT_ROW ? parts[0].cols / p->all_blocks : parts[0].cols;
  p->block_elems = gd_round_up(p->block_rows * p->block_cols, GD_UNIT_ELEMS);
  p->offset = b->at;
  p->trained = trained;
  p->lr_scale = lr_scale;
  p->decay = !vector;
  p->init_std = init_std;
  p->init_value = init_value;
  b->at += p->block_elems * p->blocks;

  for (int i = 0; i < count; i++) {
    char full[GD_NAME_BYTES];
    int32_t tensor;
    snprintf(full, sizeof full, "%s%s", prefix, parts[i].suffix);
    GD_TRY(add_tensor(b, full, &parts[i], vector, &tensor));
  }
  if (stage_of(layout, b->layer) != layout->coordinates[GD_AXIS_PIPELINE]) return GD_OK;
  for (int32_t block = 0; block < p->blocks; block++) {
    int64_t offset = p->offset + block * p->block_elems, r = p->first_block + block;
    for (int i = 0; i < count; i++) {
      int64_t rows = cut == GD_CUT_COLUMN ? parts[i].memory_rows / p->all_blocks : parts[i].memory_rows;
      gd_box box = {0, parts[i].rows, 0, parts[i].cols};
      if (cut == GD_CUT_COLUMN) {
        box.row = r * rows;
        box.rows = box.row + rows > parts[i].rows ? parts[i].rows - box.row : rows;
      } else if (cut == GD_CUT_ROW) {
        box.cols = p->block_cols;
        box.col = r * box.cols;
      }
      GD_TRY(add_segment(b, (gd_segment){layout->tensor_count - count + i, *index, box, offset}));
      offset += rows * p->block_cols;
    }
  }
  return GD_OK;
}

/* Adds parameters to the open bucket; called once for those that are trained and once for those that are frozen. */
typedef gd_status add_parameters(builder *b);

static void close_bucket(builder *b, const char *name) {
  gd_layout *layout = b->layout;
  int64_t data = layout->mesh.size[GD_AXIS_DATA];
  gd_bucket *bucket = &layout->buckets[layout->bucket_count++];
  *bucket = (gd_bucket){.layer = b->layer, .stage = stage_of(layout, b->layer), .axes = GD_MASK_DATA};
  bucket->trained = b->trained;
  snprintf(bucket->name, sizeof bucket->name, "%s%s", name, b->trained ? "" : " frozen");
  bucket->elements = gd_round_up(b->at, GD_UNIT_ELEMS * data);
  bucket->piece = bucket->elements / data;
}

/* The bucket of a layer or a table, or, where a part of it is frozen, its two. */
static gd_status add_buckets(builder *b, int32_t layer, const char *name, add_parameters *add) {
  for (int frozen = 0; frozen < 2; frozen++) {
    b->layer = layer;
    b->at = 0;
    b->trained = !frozen;
    GD_TRY(add(b));
    if (b->at > 0) close_bucket(b, name);
  }
  return GD_OK;
}

static gd_status add_vector(builder *b, const char *prefix, const char *name, gd_cut cut, int64_t n, float value,
                            int32_t *index) {
  part p = {name, n, 1, n};
  return add_parameter(b, prefix, name, cut, &p, 1, true, 0, value, index);
}

static gd_status add_norm(builder *b, const char *prefix, const char *weight, const char *bias, int32_t *weight_index,
                          int32_t *bias_index) {
  const gd_model_spec *m = &b->layout->spec.model;
  GD_TRY(add_vector(b, prefix, weight, GD_CUT_NONE, m->width, 1, weight_index));
  if (m->norm == GD_NORM_LAYERNORM) GD_TRY(add_vector(b, prefix, bias, GD_CUT_NONE, m->width, 0, bias_index));
  return GD_OK;
}

static gd_status add_attention(builder *b, const char *prefix, gd_layer_parameters *layer) {
  const gd_model_spec *m = &b->layout->spec.model;
  int64_t c = m->width, q = (int64_t)m->heads * m->head_size, kv = (int64_t)m->kv_heads * m->head_size;
  float residual_std = m->init_std / sqrtf(2.0f * (float)m->layers);
  part weight[3] = {
      {"attention.query.weight", q, c, q}, {"attention.key.weight", kv, c, kv}, {"attention.value.weight", kv, c, kv}};
  part bias[3] = {{"attention.query.bias", q, 1, q}, {"attention.key.bias", kv, 1, kv}, {"attention.value.bias", kv, 1, kv}};
  part projection = {"attention.projection.weight", c, q, c};
  GD_TRY(add_parameter(b, prefix, "attention.qkv.weight", GD_CUT_COLUMN, weight, 3, false, m->init_std, 0, &layer->qkv_weight));
  if (m->bias & GD_BIAS_QKV)
    GD_TRY(add_parameter(b, prefix, "attention.qkv.bias", GD_CUT_COLUMN, bias, 3, true, 0, 0, &layer->qkv_bias));
  GD_TRY(add_parameter(b, prefix, projection.suffix, GD_CUT_ROW, &projection, 1, false, residual_std, 0,
                       &layer->projection_weight));
  if (m->bias & GD_BIAS_PROJECTION)
    GD_TRY(add_vector(b, prefix, "attention.projection.bias", GD_CUT_NONE, c, 0, &layer->projection_bias));
  return GD_OK;
}

static gd_status add_mlp(builder *b, const char *prefix, gd_layer_parameters *layer) {
  const gd_model_spec *m = &b->layout->spec.model;
  int64_t c = m->width, f = m->ffn;
  float residual_std = m->init_std / sqrtf(2.0f * (float)m->layers);
  bool gated = m->activation == GD_ACTIVATION_SWIGLU;
  part weight[2] = {{"mlp.gate.weight", f, c, f}, {"mlp.up.weight", f, c, f}};
  part bias[2] = {{"mlp.gate.bias", f, 1, f}, {"mlp.up.bias", f, 1, f}};
  part down = {"mlp.down.weight", c, f, c};
  GD_TRY(add_parameter(b, prefix, gated ? "mlp.gate_up.weight" : "mlp.up.weight", GD_CUT_COLUMN, weight + !gated, 1 + gated,
                       false, m->init_std, 0, &layer->up_weight));
  if (m->bias & GD_BIAS_MLP)
    GD_TRY(add_parameter(b, prefix, gated ? "mlp.gate_up.bias" : "mlp.up.bias", GD_CUT_COLUMN, bias + !gated, 1 + gated, true,
                         0, 0, &layer->up_bias));
  GD_TRY(add_parameter(b, prefix, down.suffix, GD_CUT_ROW, &down, 1, false, residual_std, 0, &layer->down_weight));
  if (m->bias & GD_BIAS_MLP) GD_TRY(add_vector(b, prefix, "mlp.down.bias", GD_CUT_NONE, c, 0, &layer->down_bias));
  return GD_OK;
}

static gd_status add_layer(builder *b) {
  gd_layer_parameters *layer = &b->layout->layers[b->layer];
  char prefix[GD_NAME_BYTES];
  snprintf(prefix, sizeof prefix, "layers.%d.", b->layer);
  GD_TRY(add_norm(b, prefix, "norm1.weight", "norm1.bias", &layer->norm1_weight, &layer->norm1_bias));
  GD_TRY(add_attention(b, prefix, layer));
  GD_TRY(add_norm(b, prefix, "norm2.weight", "norm2.bias", &layer->norm2_weight, &layer->norm2_bias));
  return add_mlp(b, prefix, layer);
}

/* The token table, or a head of its own. */
static gd_status add_vocabulary(builder *b, const char *name, int32_t *index) {
  const gd_model_spec *m = &b->layout->spec.model;
  int64_t padded = b->layout->shape.block_vocabulary * b->layout->shape.all_blocks;
  part rows = {name, m->vocabulary, m->width, padded};
  return add_parameter(b, "", name, GD_CUT_COLUMN, &rows, 1, false, m->init_std, 0, index);
}

static gd_status add_token_table(builder *b) {
  return add_vocabulary(b, "token_embedding.weight", &b->layout->token_table);
}

static gd_status add_position_table(builder *b) {
  const gd_model_spec *m = &b->layout->spec.model;
  part rows = {"position_embedding.weight", m->context, m->width, m->context};
  return add_parameter(b, "", rows.suffix, GD_CUT_NONE, &rows, 1, false, m->init_std, 0, &b->layout->position_table);
}

static gd_status add_final_norm(builder *b) {
  gd_layout *layout = b->layout;
  return add_norm(b, "", "final_norm.weight", "final_norm.bias", &layout->final_norm_weight, &layout->final_norm_bias);
}

static gd_status add_head(builder *b) {
  return add_vocabulary(b, "head.weight", &b->layout->head);
}

static gd_status add_classifier(builder *b) {
  const gd_model_spec *m = &b->layout->spec.model;
  part rows = {"classifier.weight", m->classes, m->width, m->classes};
  return add_parameter(b, "", rows.suffix, GD_CUT_NONE, &rows, 1, false, m->init_std, 0, &b->layout->head);
}

static gd_status add_all(builder *b) {
  gd_layout *layout = b->layout;
  const gd_model_spec *m = &layout->spec.model;
  layout->position_table = layout->final_norm_bias = -1;
  GD_TRY(add_buckets(b, 0, "token_embedding", add_token_table));
  if (m->position == GD_POSITION_LEARNED) GD_TRY(add_buckets(b, 0, "position_embedding", add_position_table));
  for (int32_t i = 0; i < m->layers; i++) {
    char name[GD_NAME_BYTES / 2];
    snprintf(name, sizeof name, "layers.%d", i);
    layout->layers[i] = (gd_layer_parameters){-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    GD_TRY(add_buckets(b, i, name, add_layer));
  }
  GD_TRY(add_buckets(b, m->layers, "final_norm", add_final_norm));
  if (m->classes) return add_buckets(b, m->layers, "classifier", add_classifier);
  layout->head = layout->token_table;
  return m->tied_head ? GD_OK : add_buckets(b, m->layers, "head", add_head);
}

static int by_name(const void *a, const void *b, void *base) {
  const gd_tensor *items = base;
  return strcmp(items[*(const int32_t *)a].name, items[*(const int32_t *)b].name);
}

/* Sorts the tensors by name and lets the segments follow. */
static gd_status sort_tensors(gd_layout *layout) {
  size_t n = (size_t)layout->tensor_count;
  int32_t *order = malloc(n * sizeof *order), *place = malloc(n * sizeof *place);
  gd_tensor *sorted = malloc(n * sizeof *sorted);
  if (!order || !place || !sorted) {
    free(order), free(place), free(sorted);
    return gd_fail(GD_NO_MEMORY, "no memory for the layout's tables (%zu tensors)", n);
  }
  for (size_t i = 0; i < n; i++) order[i] = (int32_t)i;
  qsort_r(order, n, sizeof *order, by_name, layout->tensors);
  for (size_t i = 0; i < n; i++) {
    sorted[i] = layout->tensors[order[i]];
    place[order[i]] = (int32_t)i;
  }
  for (int32_t s = 0; s < layout->segment_count; s++) layout->segments[s].tensor = place[layout->segments[s].tensor];
  free(layout->tensors), free(order), free(place);
  layout->tensors = sorted;
  return GD_OK;
}

/* The accumulator of a tied head, behind the gradients of the parameters. */
static void add_tied_head(gd_layout *layout) {
  gd_bucket *bucket = &layout->buckets[layout->gradient_bucket_count];
  *bucket = layout->buckets[0];
  snprintf(bucket->name, sizeof bucket->name, "tied_head");
  bucket->layer = layout->shape.layers;
  bucket->stage = stage_of(layout, bucket->layer);
  layout->tied_head_bucket = layout->gradient_bucket_count++;
}

/* Where backward ends. */
static void find_lowest(gd_layout *layout) {
  int32_t position = layout->position_table;
  layout->tables_trained = gd_layout_trains(layout, layout->token_table) || gd_layout_trains(layout, position);
  layout->lowest_layer = layout->shape.layers;
  for (int32_t i = 0; i < layout->bucket_count; i++) {
    const gd_bucket *bucket = &layout->buckets[i];
    if (bucket->trained && bucket->layer < layout->lowest_layer) layout->lowest_layer = bucket->layer;
  }
  layout->head_goes_back = layout->lowest_layer < layout->shape.layers || gd_layout_trains(layout, layout->final_norm_weight) ||
                           gd_layout_trains(layout, layout->final_norm_bias);
}

/* Memory for what is on this rank. */
static void place_buckets(gd_layout *layout) {
  bool pieces = layout->spec.parallel.zero >= 1;
  for (int32_t i = 0; i < layout->gradient_bucket_count; i++) {
    gd_bucket *bucket = &layout->buckets[i];
    bool weights = i < layout->bucket_count;
    bucket->offset = bucket->gradient_offset = bucket->state_offset = -1;
    if (bucket->stage != layout->coordinates[GD_AXIS_PIPELINE]) continue;
    if (bucket->trained) bucket->gradient_offset = layout->gradient_elems;
    if (bucket->trained) layout->gradient_elems += bucket->elements;
    if (!weights) continue;
    bucket->offset = layout->arena_elems;
    layout->arena_elems += bucket->elements;
    if (!bucket->trained) continue;
    bucket->state_offset = layout->state_elems;
    layout->state_elems += pieces ? bucket->piece : bucket->elements;
  }
}

gd_status gd_layout_create(const gd_spec *spec, const gd_mesh *mesh, int32_t rank, gd_layout *out) {
  memset(out, 0, sizeof *out);
  out->spec = *spec;
  out->mesh = *mesh;
  out->rank = rank;
  gd_mesh_coordinates(mesh, rank, out->coordinates);
  out->shape = gd_shape_of(spec, out->coordinates[GD_AXIS_TENSOR], mesh->size[GD_AXIS_TENSOR]);
  out->layers = calloc((size_t)spec->model.layers, sizeof *out->layers);
  out->buckets = calloc(2 * (size_t)spec->model.layers + 8, sizeof *out->buckets);
  builder b = {.layout = out};
  gd_status status = GD_OK;
  if (!out->layers || !out->buckets)
    status = gd_fail(GD_NO_MEMORY, "no memory for the layout of %d layers", spec->model.layers);
  if (status == GD_OK) status = add_all(&b);
  if (status == GD_OK) status = sort_tensors(out);
  if (status == GD_OK) status = gd_trained_check(spec, out->tensors, out->tensor_count);
  if (status != GD_OK) {
    gd_layout_free(out);
    return status;
  }
  out->gradient_bucket_count = out->bucket_count;
  out->tied_head_bucket = -1;
  if (spec->model.tied_head && !spec->model.classes && out->buckets[0].trained) add_tied_head(out);
  find_lowest(out);
  place_buckets(out);
  return GD_OK;
}

void gd_layout_free(gd_layout *layout) {
  free(layout->tensors);
  free(layout->parameters);
  free(layout->segments);
  free(layout->buckets);
  free(layout->layers);
  memset(layout, 0, sizeof *layout);
}

gd_range gd_layout_piece(const gd_layout *layout, int32_t bucket, int32_t data_rank) {
  int64_t piece = layout->buckets[bucket].piece;
  return (gd_range){gd_deal_piece(layout->mesh.size[GD_AXIS_DATA], data_rank) * piece, piece};
}

gd_range gd_layout_updated(const gd_layout *layout, int32_t bucket) {
  if (layout->spec.parallel.zero >= 1) return gd_layout_piece(layout, bucket, layout->coordinates[GD_AXIS_DATA]);
  return (gd_range){0, layout->buckets[bucket].elements};
}

int64_t gd_layout_state(const gd_layout *layout, int32_t bucket, int64_t offset) {
  return layout->buckets[bucket].state_offset + offset - gd_layout_updated(layout, bucket).offset;
}

int64_t gd_layout_largest_piece(const gd_layout *layout) {
  int64_t largest = 0;
  for (int32_t i = 0; i < layout->gradient_bucket_count; i++)
    if (layout->buckets[i].trained && layout->buckets[i].piece > largest) largest = layout->buckets[i].piece;
  return largest;
}

bool gd_layout_trains(const gd_layout *layout, int32_t parameter) {
  return parameter >= 0 && layout->parameters[parameter].trained;
}

enum { LONGEST_CHAIN = 256 }; /* rows */

int64_t gd_layout_leaf_rows(const gd_layout *layout, int64_t rows_here) {
  if (layout->spec.numerics == GD_NUMERICS_INVARIANT) return layout->shape.time_block / layout->shape.all_blocks;
  return rows_here < LONGEST_CHAIN ? rows_here : LONGEST_CHAIN;
}

int64_t gd_layout_leaves(const gd_layout *layout, int64_t rows_here) {
  int64_t leaf = gd_layout_leaf_rows(layout, rows_here);
  return (rows_here + leaf - 1) / leaf;
}

int64_t gd_layout_token_leaf(const gd_layout *layout) {
  return layout->spec.numerics == GD_NUMERICS_INVARIANT ? layout->shape.time_block : LONGEST_CHAIN;
}

int64_t gd_layout_time_leaf(const gd_layout *layout) {
  if (layout->spec.numerics == GD_NUMERICS_FAST) return 0;
  return layout->shape.time_block < LONGEST_CHAIN ? layout->shape.time_block : LONGEST_CHAIN;
}
