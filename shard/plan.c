/* plan.c - writes the rows of the step table: a schedule's passes, then what belongs to each of them and to the step. */
#include "shard/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"

static const struct {
  const char *name;
  bool communicates;
} kinds[GD_ACTION_KINDS] = {
    [GD_DO_FORWARD] = {"forward", false},
    [GD_DO_HEAD] = {"head", false},
    [GD_DO_BACKWARD] = {"backward", false},
    [GD_DO_BACKWARD_INPUT] = {"backward_input", false},
    [GD_DO_BACKWARD_WEIGHT] = {"backward_weight", false},
    [GD_DO_RECOMPUTE] = {"recompute", false},
    [GD_DO_GATHER] = {"gather", true},
    [GD_DO_FREE] = {"free", false},
    [GD_DO_REDUCE] = {"reduce", true},
    [GD_DO_MESSAGE] = {"message", true},
    [GD_DO_VOTE] = {"vote", false},
    [GD_DO_UPDATE] = {"update", false},
};

const char *gd_action_name(gd_action_kind kind) {
  return kinds[kind].name;
}

const char *gd_plan_head(const gd_layout *layout) {
  return layout->shape.classes ? "classifier" : "lm";
}

bool gd_action_communicates(gd_action_kind kind) {
  return kinds[kind].communicates;
}

bool gd_action_covers(const gd_action *a, const gd_layout *layout, int32_t bucket) {
  int32_t layer = layout->buckets[bucket].layer;
  if (a->kind == GD_DO_HEAD) return layer == layout->shape.layers;
  int32_t lowest = a->kind == GD_DO_FORWARD || a->kind == GD_DO_RECOMPUTE ? a->first_layer : a->first_layer - a->layers + 1;
  return layer >= lowest && layer < lowest + a->layers;
}

static gd_action *append(gd_plan *plan, gd_action_kind kind) {
  gd_action *action = &plan->actions[plan->count++];
  *action = (gd_action){.kind = kind, .micro = -1, .chunk = -1, .bucket = -1, .slot = -1, .peer = -1};
  action->waits_for = GD_WAITS_NOTHING;
  return action;
}

/* A pass on its way into rows. */
typedef struct pass_place {
  const gd_pass *pass;
  int32_t sequences, slot;
  bool last;         /* of the step's micro-batches */
  int32_t waits_for; /* of the rows that use weights first */
} pass_place;

static gd_action *append_pass(gd_plan *plan, gd_action_kind kind, const pass_place *at, int32_t first_layer, int32_t layers) {
  gd_action *action = append(plan, kind);
  action->micro = at->pass->micro;
  action->chunk = at->pass->chunk;
  action->sequences = at->sequences;
  action->slot = at->slot;
  action->first_layer = first_layer;
  action->layers = layers;
  return action;
}

/* The sums of all trained buckets that the last row completed, in the reverse of their order, as they end. */
static void append_reduces(gd_plan *plan, const gd_layout *layout) {
  int32_t done = plan->count - 1;
  for (int32_t b = layout->gradient_bucket_count - 1; b >= 0; b--) {
    if (!layout->buckets[b].trained || !gd_action_covers(&plan->actions[done], layout, b)) continue;
    gd_action *reduce = append(plan, GD_DO_REDUCE);
    reduce->bucket = b;
    reduce->waits_for = done;
  }
}

static void append_forward(gd_plan *plan, const gd_layout *layout, const pass_place *at) {
  append_pass(plan, GD_DO_FORWARD, at, 0, layout->shape.layers)->waits_for = at->waits_for;
}

static void append_head(gd_plan *plan, const pass_place *at) {
  append_pass(plan, GD_DO_HEAD, at, 0, 0)->waits_for = at->waits_for;
}

/* The head comes right before the layers, for the gradient between them is not kept. Gradients leave when the last micro-batch
 * is through their layer, so it goes layer by layer. It ends where nothing below learns. */
static void append_backward(gd_plan *plan, const gd_layout *layout, const pass_place *at) {
  int32_t layers = layout->shape.layers, lowest = layout->lowest_layer;
  append_head(plan, at);
  if (!at->last) {
    if (lowest < layers) append_pass(plan, GD_DO_BACKWARD, at, layers - 1, layers - lowest);
    return;
  }
  append_reduces(plan, layout);
  for (int32_t layer = layers - 1; layer >= lowest; layer--) {
    append_pass(plan, GD_DO_BACKWARD, at, layer, 1);
    append_reduces(plan, layout);
  }
}

/* Vote, update, and the updated weights back to everyone: what is frozen is everywhere. */
static void append_end(gd_plan *plan, const gd_layout *layout, bool gathered) {
  int32_t last_reduce = plan->count - 1;
  append(plan, GD_DO_VOTE)->waits_for = last_reduce;
  append(plan, GD_DO_UPDATE);
  int32_t update = plan->count - 1;
  for (int32_t b = 0; gathered && b < layout->bucket_count; b++) {
    if (!layout->buckets[b].trained) continue;
    gd_action *gather = append(plan, GD_DO_GATHER);
    gather->bucket = b;
    gather->waits_for = update;
  }
}

/* Every pass finds the slot of its micro-batch: the lowest that is free when it goes forward, free again when it is back. */
static void append_passes(gd_plan *plan, const gd_layout *layout, const gd_pass *passes, int32_t micros, bool backward,
                          bool gathered, int32_t *slot_of, uint8_t *taken) {
  const gd_spec *spec = &layout->spec;
  for (int32_t i = 0; i < 2 * micros; i++) {
    int32_t m = passes[i].micro;
    pass_place at = {.pass = &passes[i], .last = m == micros - 1};
    at.waits_for = gathered ? GD_WAITS_STEP_BEFORE : GD_WAITS_NOTHING;
    at.sequences = gd_deal_round(spec, layout->mesh.size[GD_AXIS_DATA], 0, m).sequences; /* as many on every data rank */
    if (!passes[i].backward) {
      while (taken[at.slot]) at.slot++;
      slot_of[m] = at.slot;
      append_forward(plan, layout, &at);
      if (!backward) append_head(plan, &at);
    } else if (backward) {
      at.slot = slot_of[m];
      append_backward(plan, layout, &at);
    }
    taken[at.slot] = backward && !passes[i].backward;
  }
}

static gd_status create(const gd_layout *layout, bool backward, gd_plan *out) {
  const gd_spec *spec = &layout->spec;
  int32_t data = layout->mesh.size[GD_AXIS_DATA], micros = gd_deal_rounds(spec, data);
  int32_t rows = 3 * micros + layout->shape.layers + layout->gradient_bucket_count + layout->bucket_count + 2;
  bool gathered = data > 1 && spec->parallel.zero >= 1;
  memset(out, 0, sizeof *out);
  out->slots = backward ? gd_schedule_slots(spec->parallel.passes, micros) : 1;
  out->actions = calloc((size_t)rows, sizeof *out->actions);
  gd_pass *passes = malloc(2 * (size_t)micros * sizeof *passes);
  int32_t *slot_of = malloc((size_t)micros * sizeof *slot_of);
  uint8_t *taken = calloc((size_t)out->slots, 1);
  gd_status status = GD_OK;
  if (out->actions && passes && slot_of && taken) {
    gd_schedule_passes(spec->parallel.passes, micros, passes);
    append_passes(out, layout, passes, micros, backward, gathered, slot_of, taken);
    if (backward) append_end(out, layout, gathered);
  } else {
    status = gd_fail(GD_NO_MEMORY, "no memory for a step of %d micro-batches", micros);
    gd_plan_free(out);
  }
  free(passes), free(slot_of), free(taken);
  return status;
}

gd_status gd_plan_create(const gd_layout *layout, gd_plan *out) {
  return create(layout, true, out);
}

gd_status gd_plan_create_validation(const gd_layout *layout, gd_plan *out) {
  return create(layout, false, out);
}

void gd_plan_free(gd_plan *plan) {
  free(plan->actions);
  memset(plan, 0, sizeof *plan);
}

/* ---- the printed table ---- */

/* How a row differs from the one a period before it. */
typedef struct advance {
  int32_t micro, layer, bucket, slot;
} advance;

/* False where b is not the same row further on. */
static bool advances(const gd_plan *plan, int32_t a_row, int32_t b_row, advance *by) {
  const gd_action *a = &plan->actions[a_row], *b = &plan->actions[b_row];
  if (a->kind != b->kind || a->sequences != b->sequences || a->layers != b->layers || a->chunk != b->chunk) return false;
  if (b->waits_for != a->waits_for && (a->waits_for < 0 || b->waits_for - a->waits_for != b_row - a_row)) return false;
  *by = (advance){b->micro - a->micro, b->first_layer - a->first_layer, b->bucket - a->bucket, b->slot - a->slot};
  return by->micro >= 0 && by->micro <= 1 && abs(by->layer) <= 1 && abs(by->bucket) <= 1 && abs(by->slot) <= 1;
}

/* How often the `rows` rows come. */
static int32_t repeats_of(const gd_plan *plan, int32_t row, int32_t rows) {
  int32_t repeats = 1;
  advance first, by;
  for (int32_t next = row + rows; next + rows <= plan->count; next += rows, repeats++)
    for (int32_t k = 0; k < rows; k++) {
      if (!advances(plan, row + k, row + k + rows, &first) || !advances(plan, next + k - rows, next + k, &by)) return repeats;
      if (memcmp(&first, &by, sizeof by) != 0) return repeats;
    }
  return repeats;
}

void gd_plan_repeats(const gd_plan *plan, int32_t row, int32_t *rows, int32_t *repeats) {
  enum { LONGEST = 4 };
  *rows = *repeats = 1;
  for (int32_t n = 1; n <= LONGEST && row + n <= plan->count; n++) {
    int32_t times = repeats_of(plan, row, n);
    if (times == 1 || n * times <= *rows * *repeats) continue;
    *rows = n;
    *repeats = times;
  }
}

static void print_range(char *out, size_t bytes, int32_t first, int32_t last) {
  if (first < 0)
    snprintf(out, bytes, "-");
  else if (first == last)
    snprintf(out, bytes, "%d", first);
  else
    snprintf(out, bytes, "%d-%d", first, last);
}

const char *gd_plan_line(const gd_plan *plan, const gd_layout *layout, int32_t row, int32_t rows, int32_t repeats, char *out,
                         size_t bytes) {
  if (row < 0) {
    snprintf(out, bytes, "%6s %6s  %-15s %13s %9s %9s  %-36s %6s  %s", "row", "times", "action", "micro-batches", "sequences",
             "layers", "bucket", "slot", "waits for");
    return out;
  }
  const gd_action *a = &plan->actions[row], *last = a + rows * (repeats - 1);
  char micro[32], layers[32], slot[32], sequences[16] = "-", waits[32] = "", bucket[2 * GD_NAME_BYTES + 8] = "-";
  bool down = a->kind == GD_DO_BACKWARD || a->kind == GD_DO_BACKWARD_INPUT || a->kind == GD_DO_BACKWARD_WEIGHT;
  int32_t others = last->layers - 1;
  print_range(micro, sizeof micro, a->micro, last->micro);
  print_range(slot, sizeof slot, a->slot, last->slot);
  print_range(layers, sizeof layers, a->layers ? a->first_layer : -1, last->first_layer + (down ? -others : others));
  if (a->sequences) snprintf(sequences, sizeof sequences, "%d", a->sequences);
  if (a->bucket >= 0) snprintf(bucket, sizeof bucket, "%s", layout->buckets[a->bucket].name);
  if (a->bucket != last->bucket)
    snprintf(bucket, sizeof bucket, "%s - %s", layout->buckets[a->bucket].name, layout->buckets[last->bucket].name);
  if (a->waits_for == GD_WAITS_STEP_BEFORE) snprintf(waits, sizeof waits, "gathers of the step before");
  if (a->waits_for >= 0) snprintf(waits, sizeof waits, "row %d", a->waits_for);
  if (last->waits_for != a->waits_for) snprintf(waits, sizeof waits, "the row before");
  char name[32];
  snprintf(name, sizeof name, "%s%s%s", gd_action_name(a->kind), a->kind == GD_DO_HEAD ? " " : "",
           a->kind == GD_DO_HEAD ? gd_plan_head(layout) : "");
  snprintf(out, bytes, "%6d %6d  %-15s %13s %9s %9s  %-36s %6s  %s", row, repeats, name, micro, sequences, layers, bucket, slot,
           waits);
  return out;
}
