/* ckpt_diff.c - how two checkpoints differ, tensor by tensor. */
#include "launch/ckpt_diff.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/file.h"

enum { SLAB_ELEMS = 1 << 20 };

/* What was found in one tensor's elements of one kind. */
typedef struct difference {
  int64_t elements; /* that differ in any bit */
  double largest;   /* of |a - b| */
  int64_t row, col; /* the first */
  float a, b;
} difference;

typedef struct comparison {
  const gd_checkpoint *a, *b;
  bool json;
  float *slab[2];
  int64_t equal, different; /* tensors x kinds, and lines of the run state */
} comparison;

static void compare_slab(const comparison *c, gd_box box, difference *found) {
  for (int64_t i = 0; i < gd_box_elements(box); i++) {
    float x = c->slab[0][i], y = c->slab[1][i];
    if (memcmp(&x, &y, sizeof x) == 0) continue;
    double distance = fabs((double)x - (double)y);
    if (!found->elements) *found = (difference){0, 0, box.row + i / box.cols, box.col + i % box.cols, x, y};
    if (distance > found->largest || isnan(distance)) found->largest = distance;
    found->elements++;
  }
}

static gd_status compare_elements(comparison *c, const gd_tensor *tensor, gd_checkpoint_kind kind, difference *found) {
  int64_t step_cols = tensor->cols < SLAB_ELEMS ? tensor->cols : SLAB_ELEMS;
  int64_t step_rows = SLAB_ELEMS / step_cols;
  memset(found, 0, sizeof *found);
  for (int64_t row = 0; row < tensor->rows; row += step_rows)
    for (int64_t col = 0; col < tensor->cols; col += step_cols) {
      gd_box box = {row, tensor->rows - row < step_rows ? tensor->rows - row : step_rows, col,
                    tensor->cols - col < step_cols ? tensor->cols - col : step_cols};
      gd_checkpoint_box from_a = {0, kind, box, c->slab[0]}, from_b = {0, kind, box, c->slab[1]};
      GD_TRY(gd_checkpoint_read(c->a, tensor, &from_a, 1));
      GD_TRY(gd_checkpoint_read(c->b, tensor, &from_b, 1));
      compare_slab(c, box, found);
    }
  return GD_OK;
}

static void tell(comparison *c, const char *name, const char *kind, const char *text) {
  c->different++;
  if (c->json)
    printf("{\"name\": \"%s\", \"kind\": \"%s\", \"difference\": \"%s\"}\n", name, kind, text);
  else
    printf("%s %s: %s\n", name, kind, text);
}

static gd_status compare_tensor(comparison *c, const gd_tensor *tensor, gd_checkpoint_kind kind) {
  difference d;
  char text[256];
  GD_TRY(compare_elements(c, tensor, kind, &d));
  if (!d.elements) {
    c->equal++;
    return GD_OK;
  }
  snprintf(text, sizeof text,
           "%" PRId64 " of %" PRId64 " elements differ, by at most %.9g; first at [%" PRId64 ", %" PRId64 "]: %.9g and %.9g",
           d.elements, tensor->rows * tensor->cols, d.largest, d.row, d.col, (double)d.a, (double)d.b);
  tell(c, tensor->name, gd_checkpoint_kind_name(kind), text);
  return GD_OK;
}

/* One name that both have. */
static gd_status compare_both(comparison *c, const gd_tensor *a, const gd_tensor *b, uint32_t kinds_a, uint32_t kinds_b) {
  char text[128];
  if (a->dims != b->dims || a->rows != b->rows || a->cols != b->cols) {
    snprintf(text, sizeof text, "%" PRId64 " x %" PRId64 " and %" PRId64 " x %" PRId64, a->rows, a->cols, b->rows, b->cols);
    tell(c, a->name, "shape", text);
    return GD_OK;
  }
  for (int kind = 0; kind < GD_KINDS; kind++) {
    bool moment = kind != GD_KIND_WEIGHTS;
    bool in_a = kinds_a >> kind & 1 && !(moment && a->frozen), in_b = kinds_b >> kind & 1 && !(moment && b->frozen);
    if (in_a && in_b)
      GD_TRY(compare_tensor(c, a, (gd_checkpoint_kind)kind));
    else if (in_a || in_b)
      tell(c, a->name, gd_checkpoint_kind_name((gd_checkpoint_kind)kind), in_a ? "only in the first" : "only in the second");
  }
  return GD_OK;
}

static gd_status compare_tensors(comparison *c) {
  int32_t count_a, count_b, i = 0, j = 0;
  uint32_t kinds_a, kinds_b;
  const gd_tensor *a = gd_checkpoint_tensors(c->a, &count_a, &kinds_a), *b = gd_checkpoint_tensors(c->b, &count_b, &kinds_b);
  while (i < count_a || j < count_b) {
    int order = i == count_a ? 1 : j == count_b ? -1 : strcmp(a[i].name, b[j].name);
    if (order == 0)
      GD_TRY(compare_both(c, &a[i], &b[j], kinds_a, kinds_b));
    else
      tell(c, order < 0 ? a[i].name : b[j].name, "tensor", order < 0 ? "only in the first" : "only in the second");
    if (order <= 0) i++;
    if (order >= 0) j++;
  }
  return GD_OK;
}

static void compare_state(comparison *c) {
  const gd_run_state *a = gd_checkpoint_state(c->a), *b = gd_checkpoint_state(c->b);
  const struct {
    const char *name;
    int64_t a, b;
  } fields[] = {{"step", a->step, b->step},
                {"tokens", a->tokens, b->tokens},
                {"draws", a->draws, b->draws},
                {"applied_steps", a->applied_steps, b->applied_steps},
                {"bad_steps", a->bad_steps, b->bad_steps}};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    char text[64];
    if (fields[i].a == fields[i].b) continue;
    snprintf(text, sizeof text, "%" PRId64 " and %" PRId64, fields[i].a, fields[i].b);
    tell(c, fields[i].name, "state", text);
  }
}

gd_status gd_ckpt_diff(const gd_checkpoint *a, const gd_checkpoint *b, bool json) {
  comparison c = {.a = a, .b = b, .json = json};
  gd_status status = GD_OK;
  for (int i = 0; i < 2; i++) c.slab[i] = malloc(SLAB_ELEMS * sizeof *c.slab[i]);
  if (!c.slab[0] || !c.slab[1]) status = gd_fail(GD_NO_MEMORY, "no memory for %d elements", 2 * SLAB_ELEMS);
  if (status == GD_OK) {
    compare_state(&c);
    status = compare_tensors(&c);
  }
  free(c.slab[0]);
  free(c.slab[1]);
  GD_TRY(status);
  if (json)
    printf("{\"equal\": %s, \"equal_tensors\": %" PRId64 ", \"differences\": %" PRId64 "}\n", c.different ? "false" : "true",
           c.equal, c.different);
  else
    printf("%s: %" PRId64 " tensors equal, %" PRId64 " differences\n", c.different ? "different" : "equal", c.equal,
           c.different);
  if (!c.different) return GD_OK;
  return gd_fail_user(GD_NO, "%s and %s differ", gd_checkpoint_path(a), gd_checkpoint_path(b));
}
