/* ranks: 1 2 4 */
/* Loss, all gradients, gradient norm, three AdamW steps and logits against an independent float64 model
 * (tests/numerics/reference/make_reference.py), on every layout that fits the ranks: tensor x data x ZeRO stage x micro-batch,
 * fast and invariant, float32 and bfloat16. Tolerances: docs/rounding.md, "What the tests use"; since every layout meets them,
 * two `fast` layouts are within twice the tolerance of each other. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/config/config.h"
#include "io/checkpoint/safetensors.h"
#include "trainer/model.h"
#include "trainer/source.h"
#include "trainer/step.h"

enum { SEQUENCES = 4, LENGTH = 16, ROWS = SEQUENCES * LENGTH, STEPS = 3, VOCABULARY = 61, DOCUMENTS = 4 };

static gd_session *session;
static gd_device *device, lazy;
static gd_safetensors *reference;

/* One layout of one shape. */
typedef struct layout_case {
  const char *shape;
  gd_dtype dtype;
  gd_numerics numerics;
  int32_t tensor, zero, micro;
  const char *train, *lr_scale; /* NULL: all of the model, as fast */
} layout_case;

static char case_name[160];
/* Largest share of a tolerance that was used, of all cases of a dtype: printed, so that a reader sees how much room is left. */
static double largest_share[2];

static void good(gd_status status) {
  if (status != GD_OK) fail_msg("%s: %s", case_name, gd_error_text());
}

/* A tensor of the reference file as a dense matrix; the caller frees. */
static float *reference_tensor(const char *prefix, const char *name, int64_t *rows, int64_t *cols) {
  char full[128];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  const gd_safetensor *t = gd_safetensors_find(reference, full);
  if (!t) fail_msg("no %s in the reference", full);
  *rows = t->shape[0];
  *cols = t->dims == 2 ? t->shape[1] : 1;
  float *out = malloc((size_t)(*rows * *cols) * sizeof *out);
  assert_non_null(out);
  good(gd_safetensors_read(reference, t, (gd_box){0, *rows, 0, *cols}, out));
  return out;
}

static double number(const char *prefix, const char *name, int index) {
  int64_t rows, cols;
  float *values = reference_tensor(prefix, name, &rows, &cols);
  assert_true(index < rows * cols);
  double value = (double)values[index];
  free(values);
  return value;
}

/* docs/rounding.md: (4 sqrt(n) S + 2 S') u in float32, 2 u S' in bfloat16. index: which number of the entry. */
static double tolerance(gd_dtype dtype, const char *name, int index) {
  if (dtype == GD_BFLOAT16) return 2.0 * 0x1p-8 * number("stored_bfloat16.", name, index);
  double n = number("longest_sum", "", 0);
  return (4.0 * sqrt(n) * number("summed.", name, index) + 2.0 * number("stored.", name, index)) * 0x1p-24;
}

static void close_to(gd_dtype dtype, const char *what, double found, double expected, double allowed) {
  double distance = fabs(found - expected);
  if (!(distance <= allowed))
    fail_msg("%s: %s is %.9g, not %.9g: %.3g apart, %.3g allowed", case_name, what, found, expected, distance, allowed);
  double *share = &largest_share[dtype == GD_BFLOAT16];
  if (distance / allowed > *share) *share = distance / allowed;
}

static bool has(const char *name) {
  return gd_safetensors_find(reference, name) != NULL;
}

/* Several documents a sequence; of a classifier its outputs, and what its loss is. */
static void set_task(gd_spec *spec) {
  int64_t rows, cols;
  spec->data.mask_documents = spec->data.reset_positions = true;
  if (!has("classifier.weight")) return;
  float *weight = reference_tensor("classifier.weight", "", &rows, &cols);
  free(weight);
  spec->model.classes = (int32_t)rows;
  spec->optimizer.label_smoothing = (float)number("smoothing", "", 0);
  float *labels = reference_tensor("labels", "", &rows, &cols);
  free(labels);
  spec->finetune.loss = cols > DOCUMENTS ? GD_LABEL_LOSS_SIGMOID : GD_LABEL_LOSS_SOFTMAX;
}

/* Weights of the folder, and those of a classifier, which it has not. */
static gd_status read_weights(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                              float *const *data) {
  int64_t rows, cols;
  if (count == 0 || strcmp(tensors[boxes[0].tensor].name, "classifier.weight") != 0)
    return gd_weight_source_read(context, tensors, boxes, count, data);
  float *weight = reference_tensor("classifier.weight", "", &rows, &cols);
  assert_true(count == 1 && boxes[0].box.rows == rows && boxes[0].box.cols == cols);
  memcpy(data[0], weight, (size_t)(rows * cols) * sizeof *weight);
  free(weight);
  return GD_OK;
}

static gd_spec make_spec(const layout_case *c, const char *folder) {
  static gd_spec spec;
  gd_config_defaults(&spec);
  gd_weight_source source;
  good(gd_weight_source_open(session, folder, &source));
  good(gd_weight_source_model(&source, &spec));
  gd_weight_source_close(&source);
  if (has("starts")) set_task(&spec);
  spec.run.steps = STEPS;
  spec.run.threads = 1;
  spec.model.dropout = 0;
  spec.parallel.tensor = c->tensor;
  spec.parallel.zero = c->zero;
  spec.batch.global = SEQUENCES;
  spec.batch.sequence = LENGTH;
  spec.batch.micro = c->micro;
  spec.precision.dtype = c->dtype;
  spec.numerics = c->numerics;
  spec.optimizer.lr = spec.optimizer.min_lr = (float)number("optimizer.lr", "", 0);
  spec.optimizer.beta1 = (float)number("optimizer.beta1", "", 0);
  spec.optimizer.beta2 = (float)number("optimizer.beta2", "", 0);
  spec.optimizer.epsilon = (float)number("optimizer.epsilon", "", 0);
  spec.optimizer.weight_decay = (float)number("optimizer.weight_decay", "", 0);
  spec.optimizer.clip = (float)number("optimizer.clip", "", 0);
  if (c->train) good(gd_config_set(gd_config_find("finetune.train"), c->train, "train", &spec));
  if (c->lr_scale) good(gd_config_set(gd_config_find("optimizer.lr_scale"), c->lr_scale, "lr_scale", &spec));
  good(gd_spec_resolve(&spec, gd_session_ranks(session)));
  return spec;
}

/* Tokens, targets and weights of a step, this data rank's share. */
static void fill_batch(const gd_model *model, int step, gd_batch *batch) {
  int64_t rows, cols;
  float *tokens = reference_tensor("tokens", "", &rows, &cols), *targets = reference_tensor("targets", "", &rows, &cols),
        *weights = reference_tensor("weights", "", &rows, &cols);
  assert_int_equal(rows, STEPS * SEQUENCES);
  int64_t first = ((int64_t)step * SEQUENCES + (int64_t)model->data->rank * batch->sequences) * LENGTH;
  for (int64_t i = 0; i < (int64_t)batch->sequences * LENGTH; i++) {
    batch->tokens[i] = (int32_t)tokens[first + i];
    batch->targets[i] = (int32_t)targets[first + i];
    batch->weights[i] = weights[first + i];
  }
  free(tokens), free(targets), free(weights);
}

/* Documents and labels of a step, this data rank's share. */
static void fill_documents(const gd_model *model, int step, gd_batch *batch) {
  int64_t rows, cols, sequence = (int64_t)step * SEQUENCES + (int64_t)model->data->rank * batch->sequences;
  if (!has("starts")) return;
  float *starts = reference_tensor("starts", "", &rows, &cols);
  for (int32_t i = 0; i < batch->sequences * LENGTH; i++) {
    batch->document_starts[i] = (int32_t)starts[sequence * LENGTH + i];
    batch->positions[i] = i % LENGTH - batch->document_starts[i];
  }
  free(starts);
  if (!batch->documents) return;
  float *weights = reference_tensor("label_weights", "", &rows, &cols),
        *ends = reference_tensor("label_rows", "", &rows, &cols);
  float *labels = reference_tensor("labels", "", &rows, &cols);
  for (int32_t i = 0; i < batch->sequences * DOCUMENTS; i++) {
    int64_t from = sequence * DOCUMENTS + i, to = (int64_t)(i / DOCUMENTS) * batch->documents + i % DOCUMENTS;
    batch->label_rows[to] = (int32_t)ends[from];
    batch->label_weights[to] = weights[from];
    memcpy(batch->labels + to * batch->columns, labels + from * batch->columns, (size_t)batch->columns * sizeof *labels);
  }
  free(weights), free(ends), free(labels);
}

/* What of the result to compare, in the float32 arena it is in. */
typedef enum result_kind { GRADIENTS, UPDATED } result_kind;

/* Each tensor's difference from the reference over all ranks: squares and largest element, then against the tolerance. */
static void compare_tensors(const gd_optimizer *optimizer, const layout_case *c, result_kind kind, double scale) {
  const gd_model *model = optimizer->model;
  const gd_layout *layout = &model->layout;
  const char *prefix = kind == GRADIENTS ? "gradients." : "updated.";
  gd_owned_box *boxes;
  int32_t count, ranks = gd_session_ranks(session);
  good(gd_layout_owned(layout, GD_OWN_SAVED, &boxes, &count));
  size_t n = (size_t)layout->tensor_count;
  typedef struct difference {
    double squares, largest, elements;
  } difference;
  difference *mine = calloc(n, sizeof *mine), *all = calloc(n * (size_t)ranks, sizeof *all);
  assert_true(mine && all);
  for (int32_t i = 0; i < count; i++) {
    const gd_owned_box *b = &boxes[i];
    int64_t rows, cols;
    if (layout->tensors[b->tensor].frozen) continue;
    float *expected = reference_tensor(prefix, layout->tensors[b->tensor].name, &rows, &cols);
    assert_true(rows == layout->tensors[b->tensor].rows && cols == layout->tensors[b->tensor].cols);
    const float *found = kind == GRADIENTS ? gd_model_bucket_gradient(model, 0, b->bucket) + b->offset
                                           : gd_optimizer_weights(optimizer, b->bucket, b->offset);
    difference *d = &mine[b->tensor];
    for (int64_t r = 0; r < b->box.rows; r++)
      for (int64_t k = 0; k < b->box.cols; k++) {
        double x = (double)found[r * b->box.cols + k] * scale - (double)expected[(b->box.row + r) * cols + b->box.col + k];
        d->squares += x * x;
        d->largest = fmax(d->largest, isnan(x) ? INFINITY : fabs(x));
        d->elements += 1;
      }
    free(expected);
  }
  free(boxes);
  good(gd_session_all_gather(session, mine, all, n * sizeof *mine));
  for (size_t t = 0; t < n; t++) {
    difference sum = {0};
    for (size_t r = 0; r < (size_t)ranks; r++) {
      sum.squares += all[r * n + t].squares;
      sum.largest = fmax(sum.largest, all[r * n + t].largest);
      sum.elements += all[r * n + t].elements;
    }
    const gd_tensor *tensor = &layout->tensors[t];
    char name[128], what[160];
    if (tensor->frozen) continue;
    assert_true(sum.elements == (double)(tensor->rows * tensor->cols)); /* each element once */
    snprintf(name, sizeof name, "%s%s", prefix, tensor->name);
    double norm = tolerance(c->dtype, name, 0), element = tolerance(c->dtype, name, 1);
    if (kind == UPDATED) { /* the roundings of three updates in float32 themselves; no element is above 2 */
      norm += 4 * 0x1p-24 * 2 * sqrt(sum.elements);
      element += 4 * 0x1p-24 * 2;
    }
    snprintf(what, sizeof what, "the norm of the error of %s", name);
    close_to(c->dtype, what, sqrt(sum.squares), 0, norm);
    snprintf(what, sizeof what, "the largest error of %s", name);
    close_to(c->dtype, what, sum.largest, 0, element);
  }
  free(mine), free(all);
}

static void run_steps(const layout_case *c, const gd_spec *spec, const char *folder) {
  gd_mesh mesh;
  gd_model model;
  gd_optimizer optimizer;
  gd_step step;
  gd_batch batch;
  gd_weight_source source;
  good(gd_mesh_init(&mesh, gd_session_ranks(session), c->tensor, 1, 1));
  good(gd_model_open(session, device, spec, &mesh, false, 0, &model));
  good(gd_weight_source_open(session, folder, &source));
  good(gd_model_read_weights(&model, read_weights, &source));
  gd_weight_source_close(&source);
  good(gd_optimizer_open(&model, &optimizer));
  good(gd_step_open(&model, &optimizer, NULL, NULL, &step));
  gd_batch_shape share = {.sequences = SEQUENCES / model.data->size, .length = LENGTH};
  share.documents = spec->model.classes ? LENGTH : 0;
  share.columns = (int32_t)model.layout.shape.label_columns;
  good(gd_batch_open_as(&share, &batch));
  for (int s = 0; s < STEPS; s++) {
    gd_step_result result;
    fill_batch(&model, s, &batch);
    fill_documents(&model, s, &batch);
    good(gd_step_run(&step, s, &batch, spec->optimizer.lr));
    good(gd_step_read(&step, s, &result));
    good(gd_step_wait(&step));
    gd_verdict verdict = result.verdict;
    assert_true(verdict.apply && verdict.applied_steps == s + 1);
    assert_true(verdict.weight_sum == number("target_count", "", s));
    close_to(c->dtype, "the mean loss", verdict.loss_sum / verdict.weight_sum, number("loss_mean", "", s),
             tolerance(c->dtype, "loss_mean", s) + 0x1p-24 * 8);
    close_to(c->dtype, "the gradient norm", verdict.gradient_norm, number("gradient_norm", "", s),
             tolerance(c->dtype, "gradient_norm", s) + 0x1p-24 * 8);
    if (s == 0) compare_tensors(&optimizer, c, GRADIENTS, 1.0 / verdict.weight_sum);
  }
  compare_tensors(&optimizer, c, UPDATED, 1.0);
  gd_batch_close(&batch);
  gd_step_close(&step);
  gd_optimizer_close(&optimizer);
  gd_model_close(&model);
}

/* ---- a part of the model ---- */

/* The norm of the reference's gradients of what is trained, and how far off ours may be. */
static double trained_norm(const layout_case *c, const gd_layout *layout, double *allowed) {
  double squares = 0, errors = 0;
  for (int32_t t = 0; t < layout->tensor_count; t++) {
    char name[128];
    int64_t rows, cols;
    if (layout->tensors[t].frozen) continue;
    snprintf(name, sizeof name, "gradients.%s", layout->tensors[t].name);
    float *g = reference_tensor(name, "", &rows, &cols);
    for (int64_t i = 0; i < rows * cols; i++) squares += (double)g[i] * (double)g[i];
    free(g);
    errors += pow(tolerance(c->dtype, name, 0), 2);
  }
  *allowed = sqrt(errors) + 0x1p-24 * 8;
  return sqrt(squares);
}

static double weight_at(const gd_model *model, const gd_owned_box *b, int64_t i) {
  const void *bucket = gd_model_bucket(model, b->bucket);
  if (model->layout.shape.dtype == GD_FLOAT32) return (double)((const float *)bucket)[b->offset + i];
  return (double)gd_bfloat16_to_float(((const gd_bfloat16 *)bucket)[b->offset + i]);
}

/* The first AdamW step in float64: both moments are the gradient's own, so an element moves by lr x / (|x| + epsilon), x its
 * gradient after clipping. An error d of x moves that by d / epsilon at most, one of the clipping factor, relative, by a
 * quarter. */
static double first_step(const gd_spec *spec, const gd_parameter *p, double weight, double gradient, double scale) {
  double lr = (double)spec->optimizer.lr * (double)p->lr_scale, x = gradient * scale;
  if (p->decay) weight -= lr * (double)spec->optimizer.weight_decay * weight;
  return weight - lr * x / (fabs(x) + (double)spec->optimizer.epsilon);
}

static void compare_weights(const gd_optimizer *optimizer, const layout_case *c, const gd_owned_box *boxes, int32_t count,
                            const double *before, double norm, double norm_allowed) {
  const gd_model *model = optimizer->model;
  const gd_layout *layout = &model->layout;
  const gd_spec *spec = &layout->spec;
  double clip = (double)spec->optimizer.clip, scale = norm > clip ? clip / norm : 1.0;
  for (int32_t k = 0; k < count; k++) {
    const gd_owned_box *b = &boxes[k];
    const gd_parameter *p = &layout->parameters[b->parameter];
    const char *tensor = layout->tensors[b->tensor].name;
    char name[128];
    int64_t rows, cols, n = gd_box_elements(b->box);
    snprintf(name, sizeof name, "gradients.%s", tensor);
    float *g = reference_tensor(name, "", &rows, &cols);
    double lr = (double)spec->optimizer.lr * (double)p->lr_scale;
    double allowed = lr * (scale * tolerance(c->dtype, name, 1) / (double)spec->optimizer.epsilon + 0.25 * norm_allowed / norm);
    for (int64_t i = 0; i < n; i++, before++) {
      if (!p->trained) {
        if (weight_at(model, b, i) != *before) fail_msg("%s: %s is frozen and has changed", case_name, tensor);
        continue;
      }
      double gradient = (double)g[(b->box.row + i / b->box.cols) * cols + b->box.col + i % b->box.cols];
      double found = (double)gd_optimizer_weights(optimizer, b->bucket, b->offset)[i];
      close_to(c->dtype, tensor, found, first_step(spec, p, *before, gradient, scale), allowed + 8 * 0x1p-24 * 2);
    }
    free(g);
  }
}

/* Gradients and the first step of what is trained; what is frozen keeps its bits. */
static void run_part(const layout_case *c) {
  char folder[1024], file[1200];
  gd_mesh mesh;
  gd_model model;
  gd_optimizer optimizer;
  gd_step step;
  gd_batch batch;
  gd_weight_source source;
  gd_step_result result;
  gd_owned_box *boxes;
  int32_t count;
  int64_t elements = 0, at = 0;
  double allowed;
  snprintf(case_name, sizeof case_name, "%s %s %s, %d ranks, tensor %d, ZeRO %d, micro-batch %d, %s", c->shape,
           gd_dtype_name(c->dtype), c->numerics == GD_NUMERICS_FAST ? "fast" : "invariant", gd_session_ranks(session),
           c->tensor, c->zero, c->micro, c->train);
  snprintf(folder, sizeof folder, "%s/tests/numerics/reference/%s", GD_SOURCE_DIR, c->shape);
  snprintf(file, sizeof file, "%s/reference.safetensors", folder);
  good(gd_safetensors_open(file, &reference));
  gd_spec spec = make_spec(c, folder);
  good(gd_mesh_init(&mesh, gd_session_ranks(session), c->tensor, 1, 1));
  good(gd_model_open(session, device, &spec, &mesh, false, 0, &model));
  good(gd_weight_source_open(session, folder, &source));
  good(gd_model_read_weights(&model, gd_weight_source_read, &source));
  gd_weight_source_close(&source);
  good(gd_optimizer_open(&model, &optimizer));
  good(gd_step_open(&model, &optimizer, NULL, NULL, &step));
  good(gd_batch_open(SEQUENCES / model.data->size, LENGTH, &batch));
  good(gd_layout_owned(&model.layout, GD_OWN_SAVED, &boxes, &count));
  for (int32_t i = 0; i < count; i++) elements += gd_box_elements(boxes[i].box);
  double *before = calloc((size_t)elements + 1, sizeof *before);
  assert_non_null(before);
  for (int32_t i = 0; i < count; i++)
    for (int64_t k = 0; k < gd_box_elements(boxes[i].box); k++) before[at++] = weight_at(&model, &boxes[i], k);
  fill_batch(&model, 0, &batch);
  good(gd_step_run(&step, 0, &batch, spec.optimizer.lr));
  good(gd_step_read(&step, 0, &result));
  good(gd_step_wait(&step));
  double norm = trained_norm(c, &model.layout, &allowed);
  close_to(c->dtype, "the mean loss", result.verdict.loss_sum / result.verdict.weight_sum, number("loss_mean", "", 0),
           tolerance(c->dtype, "loss_mean", 0) + 0x1p-24 * 8);
  close_to(c->dtype, "the norm of the gradients of what is trained", result.verdict.gradient_norm, norm, allowed);
  compare_tensors(&optimizer, c, GRADIENTS, 1.0 / result.verdict.weight_sum);
  compare_weights(&optimizer, c, boxes, count, before, norm, allowed);
  free(before), free(boxes);
  gd_batch_close(&batch);
  gd_step_close(&step);
  gd_optimizer_close(&optimizer);
  gd_model_close(&model);
  gd_safetensors_close(reference);
}

static void run_parts(const char *shape, const char *const *parts, int count) {
  int32_t ranks = gd_session_ranks(session), most = strncmp(shape, "gpt2", 4) == 0 ? 4 : 2; /* key/value heads */
  for (int32_t tensor = 1; tensor <= most && tensor <= ranks; tensor *= 2)
    for (int variant = 0; variant < 8; variant++)
      for (int part = 0; part < count; part++) {
        layout_case c = {
            .shape = shape, .dtype = variant & 1 ? GD_BFLOAT16 : GD_FLOAT32, .tensor = tensor, .train = parts[part]};
        c.numerics = variant & 2 ? GD_NUMERICS_INVARIANT : GD_NUMERICS_FAST;
        c.zero = variant & 4 ? 1 : 0;
        c.micro = variant & 4 ? 1 : SEQUENCES / (ranks / tensor);
        c.lr_scale = part % 2 ? "{\"*\": 0.5, \"*.weight\": 2, \"*o*.weight\": 3}" : NULL;
        run_part(&c);
      }
}

/* A tied head is the token table: what trains it goes through all layers. */
static void a_part_of_gpt2_equals_the_reference(void **state) {
  (void)state;
  static const char *const parts[] = {"head",
                                      "[layers.1.*, final_norm.*]",
                                      "[layers.0.mlp.*, \"layers.1.*.bias\"]",
                                      "[position_embedding.*, layers.1.mlp.down.weight]",
                                      "top:1",
                                      "all"};
  run_parts("gpt2", parts, sizeof parts / sizeof *parts);
}

static void a_part_of_llama_equals_the_reference(void **state) {
  (void)state;
  static const char *const parts[] = {
      "head",          "top:1", "[head.*]", "[layers.0.norm1.*, layers.1.attention.projection.*]", "[token_embedding.*]",
      "[final_norm.*]"};
  run_parts("llama", parts, sizeof parts / sizeof *parts);
}

/* ---- the path of generation ---- */

/* The same weights through the path of generation: all positions in one call, then the last half of them one at a time, then
 * two texts beside each other. */
static void run_logits(const layout_case *c, const gd_spec *spec, const char *folder, gd_device *on) {
  gd_mesh mesh;
  gd_model model;
  gd_weight_source source;
  int64_t rows, cols;
  int32_t tokens[LENGTH];
  static float logits[LENGTH * VOCABULARY];
  float *text = reference_tensor("tokens", "", &rows, &cols);
  for (int i = 0; i < LENGTH; i++) tokens[i] = (int32_t)text[i];
  free(text);
  good(gd_mesh_init(&mesh, gd_session_ranks(session), c->tensor, 1, 1));
  good(gd_model_open(session, on, spec, &mesh, 2, LENGTH, &model));
  good(gd_weight_source_open(session, folder, &source));
  good(gd_model_read_weights(&model, gd_weight_source_read, &source));
  gd_weight_source_close(&source);
  float *expected = reference_tensor("logits", "", &rows, &cols);
  assert_true(rows == LENGTH && cols == VOCABULARY);
  for (int half = 0; half < 2; half++) {
    int32_t slot = 1 - half;
    model.cache.lengths[slot] = 0;
    int32_t together = half ? LENGTH / 2 : LENGTH;
    good(gd_model_infer(&model, &(gd_infer_part){slot, together, together}, 1, tokens, logits));
    for (int32_t t = together; t < LENGTH; t++)
      good(gd_model_infer(&model, &(gd_infer_part){slot, 1, 1}, 1, tokens + t, logits + t * VOCABULARY));
    for (int i = 0; i < LENGTH * VOCABULARY; i++)
      close_to(c->dtype, "a logit", (double)logits[i], (double)expected[i], tolerance(c->dtype, "logits", 0));
  }
  /* Two texts in one call: slot 0 two tokens at a time, slot 1 one, its logits wanted every other time. */
  model.cache.lengths[0] = model.cache.lengths[1] = 0;
  for (int32_t t = 0; t + 1 < LENGTH; t += 2) {
    int32_t together[] = {tokens[t], tokens[t + 1], tokens[t / 2]}, wanted = t / 2 % 2;
    gd_infer_part parts[] = {{0, 2, 1}, {1, 1, wanted}};
    good(gd_model_infer(&model, parts, 2, together, logits));
    for (int i = 0; i < (1 + wanted) * VOCABULARY; i++) {
      int row = i < VOCABULARY ? t + 1 : t / 2;
      close_to(c->dtype, "a logit of two texts", (double)logits[i], (double)expected[row * VOCABULARY + i % VOCABULARY],
               tolerance(c->dtype, "logits", 0));
    }
  }
  free(expected);
  gd_model_close(&model);
}

static void run_case(const layout_case *c) {
  char folder[1024], file[1200];
  snprintf(case_name, sizeof case_name, "%s %s %s, %d ranks, tensor %d, ZeRO %d, micro-batch %d", c->shape,
           gd_dtype_name(c->dtype), c->numerics == GD_NUMERICS_FAST ? "fast" : "invariant", gd_session_ranks(session),
           c->tensor, c->zero, c->micro);
  snprintf(folder, sizeof folder, "%s/tests/numerics/reference/%s", GD_SOURCE_DIR, c->shape);
  snprintf(file, sizeof file, "%s/reference.safetensors", folder);
  good(gd_safetensors_open(file, &reference));
  gd_spec spec = make_spec(c, folder);
  run_steps(c, &spec, folder);
  if (has("logits") && c->zero == 0 && c->micro == SEQUENCES / (gd_session_ranks(session) / c->tensor)) {
    run_logits(c, &spec, folder, device);
    run_logits(c, &spec, folder, &lazy); /* shows a result that is read too soon */
  }
  gd_safetensors_close(reference);
}

/* Every tensor x ZeRO x micro-batch layout of the ranks. */
static void run_layouts(const char *shape, gd_dtype dtype) {
  int32_t ranks = gd_session_ranks(session), most = strncmp(shape, "gpt2", 4) == 0 ? 4 : 2; /* key/value heads */
  for (int32_t tensor = 1; tensor <= most && tensor <= ranks; tensor *= 2) {
    int32_t share = SEQUENCES / (ranks / tensor);
    for (int32_t zero = 0; zero < 2; zero++)
      for (int32_t micro = 1; micro <= share; micro += micro == 1 ? 2 : 1)
        for (int numerics = 0; numerics < 2; numerics++)
          run_case(&(layout_case){.shape = shape,
                                  .dtype = dtype,
                                  .numerics = numerics ? GD_NUMERICS_INVARIANT : GD_NUMERICS_FAST,
                                  .tensor = tensor,
                                  .zero = zero,
                                  .micro = micro});
  }
}

static void gpt2_equals_the_reference_in_float32(void **state) {
  (void)state;
  run_layouts("gpt2", GD_FLOAT32);
}
static void llama_equals_the_reference_in_float32(void **state) {
  (void)state;
  run_layouts("llama", GD_FLOAT32);
  run_layouts("llama_tied", GD_FLOAT32);
  run_layouts("qwen2", GD_FLOAT32); /* its biases and rotary positions */
}
static void gpt2_equals_the_reference_in_bfloat16(void **state) {
  (void)state;
  run_layouts("gpt2", GD_BFLOAT16);
}
static void llama_equals_the_reference_in_bfloat16(void **state) {
  (void)state;
  run_layouts("llama", GD_BFLOAT16);
  run_layouts("llama_tied", GD_BFLOAT16);
  run_layouts("qwen2", GD_BFLOAT16);
}

/* Documents that share sequences: targets of their own, one label each, several labels each. */
static void tasks_equal_the_reference(void **state) {
  (void)state;
  static const char *const shapes[] = {"gpt2_sft", "gpt2_labels", "llama_classes"};
  for (int i = 0; i < 3; i++) {
    run_layouts(shapes[i], GD_FLOAT32);
    run_layouts(shapes[i], GD_BFLOAT16);
  }
}

static int open_session(void **state) {
  (void)state;
  gd_spec spec;
  gd_config_defaults(&spec);
  spec.run.device = GD_DEVICE_CPU;
  if (gd_session_open(&session) != GD_OK || gd_session_open_device(session, &spec, &device) != GD_OK ||
      gd_device_open_lazy(&lazy) != GD_OK) {
    print_error("%s\n", gd_error_text());
    return -1;
  }
  return 0;
}

static int close_session(void **state) {
  (void)state;
  if (gd_session_rank(session) == 0)
    print_message("largest share of a tolerance used: float32 %.3f, bfloat16 %.3f\n", largest_share[0], largest_share[1]);
  lazy.ops->close(&lazy);
  gd_session_close(session);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gpt2_equals_the_reference_in_float32),
      cmocka_unit_test(llama_equals_the_reference_in_float32),
      cmocka_unit_test(gpt2_equals_the_reference_in_bfloat16),
      cmocka_unit_test(llama_equals_the_reference_in_bfloat16),
      cmocka_unit_test(tasks_equal_the_reference),
      cmocka_unit_test(a_part_of_gpt2_equals_the_reference),
      cmocka_unit_test(a_part_of_llama_equals_the_reference),
  };
  return cmocka_run_group_tests(tests, open_session, close_session);
}
