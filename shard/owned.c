/* owned.c - which flat ranges of the arena a rank saves, updates or reads, cut into boxes. */
#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"
#include "shard/layout.h"

typedef struct box_list {
  gd_owned_box *boxes;
  int32_t count, capacity;
} box_list;

static gd_status append(box_list *list, gd_owned_box box) {
  if (list->count == list->capacity) {
    int32_t larger = list->capacity ? 2 * list->capacity : 256;
    gd_owned_box *moved = realloc(list->boxes, (size_t)larger * sizeof *moved);
    if (!moved) return gd_fail(GD_NO_MEMORY, "no memory for %d checkpoint boxes", larger);
    list->boxes = moved;
    list->capacity = larger;
  }
  list->boxes[list->count++] = box;
  return GD_OK;
}

/* The elements [from, to) of a segment (counted in the segment): a tail of the first row, whole rows, a head of the last row.
 */
static gd_status cut_segment(box_list *list, const gd_segment *s, int32_t bucket, int64_t from, int64_t to) {
  int64_t cols = s->box.cols;
  while (from < to) {
    int64_t row = from / cols, col = from % cols, rows = 1, width = cols - col;
    if (col == 0 && to - from >= cols)
      rows = (to - from) / cols;
    else if (width > to - from)
      width = to - from;
    gd_box box = {s->box.row + row, rows, s->box.col + col, width};
    GD_TRY(append(list, (gd_owned_box){s->tensor, s->parameter, bucket, box, s->offset + from}));
    from += rows * width;
  }
  return GD_OK;
}

gd_status gd_layout_owned(const gd_layout *layout, gd_ownership which, gd_owned_box **out, int32_t *count) {
  box_list list = {0};
  int32_t data_rank = layout->coordinates[GD_AXIS_DATA];
  gd_status status = GD_OK;
  for (int32_t i = 0; i < layout->segment_count && status == GD_OK; i++) {
    const gd_segment *s = &layout->segments[i];
    const gd_parameter *parameter = &layout->parameters[s->parameter];
    if (which == GD_OWN_SAVED && parameter->cut == GD_CUT_NONE && layout->coordinates[GD_AXIS_TENSOR] != 0) continue;
    if (which == GD_OWN_STATE && !parameter->trained) continue;
    gd_range range = gd_layout_updated(layout, parameter->bucket);
    if (which == GD_OWN_SAVED) range = gd_layout_piece(layout, parameter->bucket, data_rank);
    if (which == GD_OWN_ALL) range = (gd_range){0, layout->buckets[parameter->bucket].elements};
    int64_t from = s->offset > range.offset ? s->offset : range.offset;
    int64_t to = s->offset + gd_box_elements(s->box);
    if (to > range.offset + range.elements) to = range.offset + range.elements;
    if (from < to) status = cut_segment(&list, s, parameter->bucket, from - s->offset, to - s->offset);
  }
  if (status != GD_OK) {
    free(list.boxes);
    return status;
  }
  *out = list.boxes;
  *count = list.count;
  return GD_OK;
}

int64_t gd_layout_piece_units(const gd_layout *layout) {
  int64_t units = 0;
  for (int32_t i = 0; i < layout->bucket_count; i++)
    if (layout->buckets[i].trained) units += layout->buckets[i].piece / GD_UNIT_ELEMS;
  return units;
}

int64_t gd_layout_saved_units(const gd_layout *layout) {
  int64_t units = 0;
  for (int32_t i = 0; i < layout->bucket_count; i++) units += layout->buckets[i].piece / GD_UNIT_ELEMS;
  return units;
}
