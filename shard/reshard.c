/* reshard.c - meets the boxes that a checkpoint has with the boxes that are wanted: a list of copies. */
#include "shard/reshard.h"

#include <inttypes.h>
#include <stdlib.h>

static int compare64(int64_t a, int64_t b) {
  return (a > b) - (a < b);
}

static int compare_place(const gd_stored_box *a, const gd_stored_box *b) {
  int order = compare64(a->tensor, b->tensor);
  if (!order) order = compare64(a->kind, b->kind);
  if (!order) order = compare64(a->box.row, b->box.row);
  if (!order) order = compare64(a->box.col, b->box.col);
  return order;
}

static int compare_index(const void *left, const void *right, void *context) {
  const gd_stored_box *stored = context;
  int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
  int order = compare_place(&stored[a], &stored[b]);
  return order ? order : compare64(a, b);
}

gd_status gd_reshard_index(const gd_stored_box *stored, int32_t count, int32_t **index) {
  int32_t *order = malloc(((size_t)count + 1) * sizeof *order);
  *index = order;
  if (!order) return gd_fail(GD_NO_MEMORY, "no memory for a table of %d boxes", count);
  for (int32_t i = 0; i < count; i++) order[i] = i;
  if (count) qsort_r(order, (size_t)count, sizeof *order, compare_index, (void *)(uintptr_t)stored);
  return GD_OK;
}

/* One (tensor, kind): boxes index[0 .. count), ascending rows. Disjoint boxes whose sizes add up to the tensor cover it. */
static gd_status check_run(const gd_tensor *tensor, const gd_stored_box *stored, const int32_t *index, int32_t count) {
  int64_t elements = 0;
  gd_box whole = {0, tensor->rows, 0, tensor->cols};
  for (int32_t i = 0; i < count; i++) {
    gd_box box = stored[index[i]].box, common;
    if (!gd_box_intersect(box, whole, &common) || gd_box_elements(common) != gd_box_elements(box))
      return gd_fail_user(GD_BAD_DATA,
                          "%s: a box at row %" PRId64 ", column %" PRId64 " lies outside its %" PRId64 " x %" PRId64,
                          tensor->name, box.row, box.col, tensor->rows, tensor->cols);
    elements += gd_box_elements(box);
    for (int32_t j = i + 1; j < count && stored[index[j]].box.row < box.row + box.rows; j++)
      if (gd_box_intersect(box, stored[index[j]].box, &common))
        return gd_fail_user(GD_BAD_DATA, "%s: row %" PRId64 ", column %" PRId64 " is stored twice", tensor->name, common.row,
                            common.col);
  }
  if (elements != tensor->rows * tensor->cols)
    return gd_fail_user(GD_BAD_DATA, "%s: %" PRId64 " of its %" PRId64 " elements are stored", tensor->name, elements,
                        tensor->rows * tensor->cols);
  return GD_OK;
}

gd_status gd_reshard_check_cover(const gd_tensor *tensors, int32_t tensor_count, const gd_stored_box *stored, int32_t count,
                                 const int32_t *index, uint32_t *kinds) {
  if (kinds)
    for (int32_t t = 0; t < tensor_count; t++) kinds[t] = 0;
  for (int32_t first = 0; first < count;) {
    const gd_stored_box *head = &stored[index[first]];
    int32_t last = first + 1;
    while (last < count && stored[index[last]].tensor == head->tensor && stored[index[last]].kind == head->kind) last++;
    if (head->tensor < 0 || head->tensor >= tensor_count)
      return gd_fail_user(GD_BAD_DATA, "a box names tensor %d of %d", head->tensor, tensor_count);
    GD_TRY(check_run(&tensors[head->tensor], stored, index + first, last - first));
    if (kinds) kinds[head->tensor] |= 1u << head->kind;
    first = last;
  }
  return GD_OK;
}

/* First place in index whose (tensor, kind) is not below the wanted one's. */
static int32_t lower_bound(const gd_stored_box *stored, const int32_t *index, int32_t count, const gd_stored_box *wanted) {
  gd_stored_box key = {.tensor = wanted->tensor, .kind = wanted->kind, .box = {INT64_MIN, 0, INT64_MIN, 0}};
  int32_t low = 0, high = count;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (compare_place(&stored[index[middle]], &key) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static int compare_copies(const void *left, const void *right, void *context) {
  const gd_stored_box *stored = context;
  const gd_copy *a = left, *b = right;
  const gd_stored_box *x = &stored[a->source], *y = &stored[b->source];
  int order = compare64(x->file, y->file);
  if (!order) order = compare64(x->kind, y->kind);
  if (!order) order = compare64(x->offset, y->offset);
  if (!order) order = compare64(a->box.row, b->box.row);
  if (!order) order = compare64(a->target, b->target);
  return order;
}

gd_status gd_reshard_plan(const gd_tensor *tensors, const gd_stored_box *stored, int32_t count, const int32_t *index,
                          const gd_stored_box *wanted, int32_t wanted_count, gd_copy **copies, int64_t *copy_count) {
  int64_t room = 0, used = 0;
  gd_copy *list = NULL;
  *copies = NULL;
  *copy_count = 0;
  for (int32_t w = 0; w < wanted_count; w++) {
    int64_t found = 0;
    for (int32_t i = lower_bound(stored, index, count, &wanted[w]); i < count; i++) {
      const gd_stored_box *from = &stored[index[i]];
      gd_box common;
      if (from->tensor != wanted[w].tensor || from->kind != wanted[w].kind) break;
      if (from->box.row >= wanted[w].box.row + wanted[w].box.rows) break;
      if (!gd_box_intersect(from->box, wanted[w].box, &common)) continue;
      if (used == room) {
        room = room ? 2 * room : 256;
        gd_copy *grown = realloc(list, (size_t)room * sizeof *grown);
        if (!grown) {
          free(list);
          return gd_fail(GD_NO_MEMORY, "no memory for a list of %" PRId64 " copies", room);
        }
        list = grown;
      }
      list[used++] = (gd_copy){index[i], w, common};
      found += gd_box_elements(common);
    }
    if (found != gd_box_elements(wanted[w].box)) {
      free(list);
      return gd_fail_user(GD_BAD_DATA, "%s: %" PRId64 " of %" PRId64 " wanted elements are stored",
                          tensors[wanted[w].tensor].name, found, gd_box_elements(wanted[w].box));
    }
  }
  if (used) qsort_r(list, (size_t)used, sizeof *list, compare_copies, (void *)(uintptr_t)stored);
  *copies = list;
  *copy_count = used;
  return GD_OK;
}
