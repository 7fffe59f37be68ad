/* plan_check.c - first every table by itself, then all of them at once, row by row as they would run. */
#include "shard/plan_check.h"

#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"

/* ---- one table ---- */

/* What a walk through one rank's table has seen so far. */
typedef struct walk {
  int32_t rank;
  const gd_layout *layout;
  const gd_plan *plan;
  int32_t micros, layers;
  int32_t lowest;        /* the layer at which backward ends */
  bool gathers;          /* updated weights come to everyone in gather rows */
  int32_t *forward_to;   /* [micros]: layers that are forward */
  int32_t *input_to;     /* [micros]: layers not yet backward (gradients of activations) */
  int32_t *weights_left; /* [micros]: layers whose parameters' gradients are missing */
  uint8_t *headed;       /* [micros] */
  int32_t *slot_of;      /* [slots]: the micro-batch alive in it, -1: none */
  int32_t *last_micro;   /* [gradient buckets]: the last that came into its gradient, -1: none */
  int32_t *last_row;     /* [gradient buckets]: ... and where */
  int32_t *reduced;      /* [gradient buckets]: row, -1: not yet */
  uint8_t *began_freed;  /* [buckets]: the step begins without its weights */
  uint8_t *freed;        /* [buckets]: its gathered weights are gone */
  uint8_t *gathered;     /* [buckets]: since the update */
  int32_t *freed_at;     /* [buckets]: row, -1: not in this step */
  int32_t *gathered_at;  /* [buckets]: row of its last gather, -1: none */
  int32_t waited;        /* the last row of the communication stream that the compute stream has waited for */
  int32_t going_back;    /* the micro-batch whose gradient goes from layer to layer, -1: none */
  int32_t vote, update;  /* rows, -1 */
  int32_t last_reduce;
} walk;

static gd_status wrong(const walk *w, int32_t row, const char *what) {
  return gd_fail(GD_BUG, "rank %d, row %d (%s): %s", w->rank, row, gd_action_name(w->plan->actions[row].kind), what);
}

static bool is_backward(gd_action_kind kind) {
  return kind == GD_DO_BACKWARD || kind == GD_DO_BACKWARD_INPUT || kind == GD_DO_BACKWARD_WEIGHT;
}

static gd_status check_wait(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (a->waits_for < 0) return GD_OK;
  if (a->waits_for >= row) return wrong(w, row, "waits for a row that is not before it");
  bool there = gd_action_communicates(w->plan->actions[a->waits_for].kind);
  if (!gd_action_communicates(a->kind) && there && a->waits_for > w->waited) w->waited = a->waits_for;
  return GD_OK;
}

/* The weights that a row multiplies by: of a tied head the token table, bucket 0, even where it is frozen. */
static gd_status check_weights(const walk *w, int32_t row) {
  for (int32_t b = 0; b < w->layout->bucket_count; b++) {
    bool head = w->plan->actions[row].kind == GD_DO_HEAD && w->layout->spec.model.tied_head && b == 0;
    if (!head && !gd_action_covers(&w->plan->actions[row], w->layout, b)) continue;
    if (w->freed[b]) return wrong(w, row, "uses weights that were freed and not gathered again");
    if (w->gathered_at[b] > w->waited) return wrong(w, row, "does not wait for the gather of its weights");
  }
  return GD_OK;
}

/* The row adds to the gradients of its buckets. */
static gd_status enter_gradients(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  for (int32_t b = 0; b < w->layout->gradient_bucket_count; b++) {
    if (!w->layout->buckets[b].trained || !gd_action_covers(a, w->layout, b)) continue;
    if (a->micro <= w->last_micro[b]) return wrong(w, row, "micro-batches do not come ascending into a gradient");
    if (w->reduced[b] >= 0) return wrong(w, row, "adds to a gradient that is summed over the ranks already");
    w->last_micro[b] = a->micro;
    w->last_row[b] = row;
  }
  return GD_OK;
}

static gd_status check_forward(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (w->gathers && a->waits_for != GD_WAITS_STEP_BEFORE)
    return wrong(w, row, "does not wait for the weights that the step before gathers");
  if (a->first_layer == 0) {
    if (w->slot_of[a->slot] >= 0) return wrong(w, row, "writes an activation slot while another micro-batch is alive in it");
    w->slot_of[a->slot] = a->micro;
  }
  if (w->slot_of[a->slot] != a->micro) return wrong(w, row, "works in the slot of another micro-batch");
  if (w->forward_to[a->micro] != a->first_layer) return wrong(w, row, "does not go on where the forward pass stood");
  w->forward_to[a->micro] += a->layers;
  return check_weights(w, row);
}

/* The micro-batch is back, where all that it waits for is done: its slot and its gradient on the way are free. */
static void end_micro(walk *w, int32_t slot, int32_t micro) {
  if (w->input_to[micro] == w->lowest) w->going_back = -1;
  if (w->input_to[micro] == w->lowest && w->weights_left[micro] == 0) w->slot_of[slot] = -1;
}

static gd_status check_head(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (w->slot_of[a->slot] != a->micro) return wrong(w, row, "works in the slot of another micro-batch");
  if (w->gathers && a->waits_for != GD_WAITS_STEP_BEFORE)
    return wrong(w, row, "does not wait for the weights that the step before gathers");
  if (w->forward_to[a->micro] != w->layers || w->headed[a->micro])
    return wrong(w, row, "does not come once, after the last layer");
  if (w->going_back >= 0) return wrong(w, row, "writes over the gradient of another micro-batch on its way back");
  w->headed[a->micro] = 1;
  w->going_back = a->micro;
  GD_TRY(check_weights(w, row));
  GD_TRY(enter_gradients(w, row));
  end_micro(w, a->slot, a->micro);
  return GD_OK;
}

static gd_status check_backward(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (w->slot_of[a->slot] != a->micro) return wrong(w, row, "works in the slot of another micro-batch");
  if (!w->headed[a->micro]) return wrong(w, row, "comes before the head");
  GD_TRY(check_weights(w, row));
  if (a->kind != GD_DO_BACKWARD_WEIGHT) {
    if (w->input_to[a->micro] - 1 != a->first_layer) return wrong(w, row, "does not go on where the backward pass stood");
    if (a->first_layer - a->layers + 1 < w->lowest) return wrong(w, row, "goes below the lowest layer that learns");
    w->input_to[a->micro] -= a->layers;
  }
  if (a->kind == GD_DO_BACKWARD_INPUT) {
    if (w->input_to[a->micro] == w->lowest) w->going_back = -1;
    return GD_OK;
  }
  if (a->first_layer - a->layers + 1 < w->input_to[a->micro])
    return wrong(w, row, "needs gradients of activations that are not there yet");
  GD_TRY(enter_gradients(w, row));
  w->weights_left[a->micro] -= a->layers;
  end_micro(w, a->slot, a->micro);
  return GD_OK;
}

static gd_status check_reduce(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (!w->layout->buckets[a->bucket].trained) return wrong(w, row, "sums a frozen bucket");
  if (w->reduced[a->bucket] >= 0) return wrong(w, row, "sums a bucket twice");
  if (w->last_micro[a->bucket] != w->micros - 1) return wrong(w, row, "sums a bucket before its last micro-batch");
  if (a->waits_for < w->last_row[a->bucket]) return wrong(w, row, "does not wait for the bucket's last gradients");
  if (a->bucket == 0 && w->layout->tied_head_bucket >= 0 && w->reduced[w->layout->tied_head_bucket] < 0)
    return wrong(w, row, "sums the token table before the tied head");
  w->reduced[a->bucket] = row;
  w->last_reduce = row;
  return GD_OK;
}

static gd_status check_vote(walk *w, int32_t row) {
  for (int32_t b = 0; b < w->layout->gradient_bucket_count; b++)
    if (w->layout->buckets[b].trained && w->reduced[b] < 0) return wrong(w, row, "comes before all buckets are summed");
  if (w->vote >= 0) return wrong(w, row, "comes twice");
  if (w->plan->actions[row].waits_for < w->last_reduce) return wrong(w, row, "does not wait for the last sum");
  w->vote = row;
  return GD_OK;
}

static gd_status check_update(walk *w, int32_t row) {
  if (w->vote < 0) return wrong(w, row, "comes before the vote");
  if (w->update >= 0) return wrong(w, row, "comes twice");
  w->update = row;
  return GD_OK;
}

/* Weights come back before a use (ZeRO 3), or to everyone after the update. */
static gd_status check_gather(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (w->update >= 0) {
    if (!w->layout->buckets[a->bucket].trained) return wrong(w, row, "gathers a frozen bucket, which no update changed");
    if (a->waits_for < w->update) return wrong(w, row, "does not wait for the update");
    if (w->gathered[a->bucket]) return wrong(w, row, "gathers a bucket twice");
    w->gathered[a->bucket] = 1;
  } else if (!w->freed[a->bucket]) {
    return wrong(w, row, "gathers weights that are there");
  } else if (a->waits_for < w->freed_at[a->bucket]) {
    return wrong(w, row, "does not wait until its weights are free");
  } else {
    w->gathered_at[a->bucket] = row;
  }
  w->freed[a->bucket] = 0;
  return GD_OK;
}

static gd_status check_free(walk *w, int32_t row) {
  int32_t bucket = w->plan->actions[row].bucket;
  if (w->freed[bucket]) return wrong(w, row, "frees weights that are free");
  w->freed[bucket] = 1;
  w->freed_at[bucket] = row;
  return GD_OK;
}

static gd_status check_recompute(const walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  if (w->slot_of[a->slot] != a->micro) return wrong(w, row, "works in the slot of another micro-batch");
  if (!w->headed[a->micro]) return wrong(w, row, "comes before the head");
  if (a->first_layer + a->layers > w->input_to[a->micro]) return wrong(w, row, "comes after its backward");
  return check_weights(w, row);
}

static gd_status check_row(walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  GD_TRY(check_wait(w, row));
  switch (a->kind) {
    case GD_DO_FORWARD: return check_forward(w, row);
    case GD_DO_HEAD: return check_head(w, row);
    case GD_DO_BACKWARD:
    case GD_DO_BACKWARD_INPUT:
    case GD_DO_BACKWARD_WEIGHT: return check_backward(w, row);
    case GD_DO_RECOMPUTE: return check_recompute(w, row);
    case GD_DO_GATHER: return check_gather(w, row);
    case GD_DO_FREE: return check_free(w, row);
    case GD_DO_REDUCE: return check_reduce(w, row);
    case GD_DO_VOTE: return check_vote(w, row);
    case GD_DO_UPDATE: return check_update(w, row);
    case GD_DO_MESSAGE:
    case GD_ACTION_KINDS: return GD_OK;
  }
  return GD_OK;
}

static gd_status check_indices(const walk *w, int32_t row) {
  const gd_action *a = &w->plan->actions[row];
  bool passes = a->kind == GD_DO_FORWARD || a->kind == GD_DO_HEAD || a->kind == GD_DO_RECOMPUTE || is_backward(a->kind);
  bool bucket = a->kind == GD_DO_GATHER || a->kind == GD_DO_FREE || a->kind == GD_DO_REDUCE;
  int32_t buckets = a->kind == GD_DO_REDUCE ? w->layout->gradient_bucket_count : w->layout->bucket_count;
  if (passes && (a->micro < 0 || a->micro >= w->micros || a->slot < 0 || a->slot >= w->plan->slots))
    return wrong(w, row, "names no micro-batch or slot of the step");
  if (bucket && (a->bucket < 0 || a->bucket >= buckets)) return wrong(w, row, "names no bucket");
  int32_t lowest = is_backward(a->kind) ? a->first_layer - a->layers + 1 : a->first_layer;
  if (a->layers < 0 || lowest < 0 || lowest + a->layers > w->layers) return wrong(w, row, "names layers that do not exist");
  return GD_OK;
}

static gd_status check_end(const walk *w) {
  int32_t last = w->plan->count - 1;
  for (int32_t m = 0; m < w->micros; m++)
    if (!w->headed[m] || w->weights_left[m] != 0 || w->input_to[m] != w->lowest)
      return gd_fail(GD_BUG, "rank %d, row %d: the table ends, and micro-batch %d is not backward", w->rank, last, m);
  if (w->update < 0) return gd_fail(GD_BUG, "rank %d, row %d: the table ends without an update", w->rank, last);
  for (int32_t b = 0; b < w->layout->bucket_count; b++) {
    const char *name = w->layout->buckets[b].name;
    if (w->freed[b] != w->began_freed[b])
      return gd_fail(GD_BUG, "rank %d, row %d: the table ends %s the weights of %s, and begins %s them", w->rank, last,
                     w->freed[b] ? "without" : "with", name, w->freed[b] ? "with" : "without");
    if (w->gathers && w->layout->buckets[b].trained && !w->began_freed[b] && !w->gathered[b])
      return gd_fail(GD_BUG, "rank %d, row %d: the table ends, and the updated %s is not gathered", w->rank, last, name);
  }
  return GD_OK;
}

/* A step begins without the weights that its first row about them gathers, before the update. */
static void find_freed(walk *w) {
  for (int32_t b = 0; b < w->layout->bucket_count; b++)
    for (int32_t row = 0; row < w->plan->count; row++) {
      const gd_action *a = &w->plan->actions[row];
      bool gathers = a->kind == GD_DO_GATHER && a->bucket == b;
      if (gathers) w->freed[b] = w->began_freed[b] = 1;
      if (gathers || a->kind == GD_DO_UPDATE || (a->kind == GD_DO_FREE && a->bucket == b)) break;
    }
}

static gd_status check_table(const gd_layout *layout, const gd_plan *plan, int32_t rank) {
  walk w = {.rank = rank,
            .layout = layout,
            .plan = plan,
            .going_back = -1,
            .waited = -1,
            .vote = -1,
            .update = -1,
            .last_reduce = -1};
  w.micros = gd_deal_rounds(&layout->spec, layout->mesh.size[GD_AXIS_DATA]);
  w.layers = layout->shape.layers;
  w.lowest = layout->lowest_layer;
  w.gathers = layout->mesh.size[GD_AXIS_DATA] > 1 && layout->spec.parallel.zero >= 1;
  int32_t m = w.micros, g = layout->gradient_bucket_count, total = 3 * m + plan->slots + 5 * g;
  int32_t *numbers = malloc((size_t)total * sizeof *numbers);
  uint8_t *bytes = calloc((size_t)(m + 3 * g), 1);
  if (!numbers || !bytes) {
    free(numbers), free(bytes);
    return gd_fail(GD_NO_MEMORY, "no memory to check a step of %d rows", plan->count);
  }
  for (int32_t i = 0; i < total; i++) numbers[i] = -1;
  w.forward_to = numbers, w.input_to = numbers + m, w.weights_left = numbers + 2 * m, w.slot_of = numbers + 3 * m;
  w.last_micro = w.slot_of + plan->slots, w.last_row = w.last_micro + g, w.reduced = w.last_row + g;
  w.freed_at = w.reduced + g, w.gathered_at = w.freed_at + g;
  w.headed = bytes, w.freed = bytes + m, w.gathered = w.freed + g, w.began_freed = w.gathered + g;
  find_freed(&w);
  for (int32_t i = 0; i < m; i++) w.forward_to[i] = 0, w.input_to[i] = w.layers, w.weights_left[i] = w.layers - w.lowest;
  gd_status status = GD_OK;
  for (int32_t row = 0; row < plan->count && status == GD_OK; row++) {
    status = check_indices(&w, row);
    if (status == GD_OK) status = check_row(&w, row);
  }
  if (status == GD_OK) status = check_end(&w);
  free(numbers), free(bytes);
  return status;
}

/* ---- all tables together ---- */

/* A rank on its way. Its compute stream keeps it from beginning later rows while it waits, as on a CPU; whatever passes here
 * passes where more runs at once. */
typedef struct runner {
  int32_t compute;       /* the first row of the compute stream that is not done: all rows before it have begun */
  int32_t communication; /* the first row of the communication stream that is not done */
  uint8_t *done;         /* [rows] */
} runner;

typedef struct simulation {
  const gd_layout *layouts;
  const gd_plan *plans;
  int32_t ranks;
  runner *runners;
  int32_t *members;
} simulation;

static const gd_action *action_of(const simulation *s, int32_t rank, int32_t row) {
  return &s->plans[rank].actions[row];
}

/* Moves both cursors on, past rows of the other stream and rows that are done. */
static void settle(simulation *s, int32_t rank) {
  runner *r = &s->runners[rank];
  int32_t count = s->plans[rank].count;
  while (r->compute < count && (gd_action_communicates(action_of(s, rank, r->compute)->kind) || r->done[r->compute]))
    r->compute++;
  while (r->communication < count &&
         (!gd_action_communicates(action_of(s, rank, r->communication)->kind) || r->done[r->communication]))
    r->communication++;
}

static void finish(simulation *s, int32_t rank, int32_t row) {
  s->runners[rank].done[row] = 1;
  settle(s, rank);
}

/* The row at the head of a rank's stream, where it has begun and what it waits for is done; else -1. */
static int32_t head_of(const simulation *s, int32_t rank, bool communicates) {
  const runner *r = &s->runners[rank];
  int32_t row = communicates ? r->communication : r->compute;
  if (row >= s->plans[rank].count || (communicates && row > r->compute)) return -1;
  int32_t awaited = action_of(s, rank, row)->waits_for;
  return awaited < 0 || r->done[awaited] ? row : -1;
}

/* The axes of the group that meets in a row; 0: none. */
static uint32_t axes_of(const gd_layout *layout, const gd_action *a) {
  if (a->kind == GD_DO_VOTE) return GD_MASK_WORLD;
  return a->kind == GD_DO_REDUCE || a->kind == GD_DO_GATHER ? layout->buckets[a->bucket].axes : 0;
}

static const char *bucket_name(const simulation *s, int32_t rank, const gd_action *a) {
  return a->bucket < 0 ? "the step" : s->layouts[rank].buckets[a->bucket].name;
}

/* Where all members of the row's group stand at it, it is done on all of them. A member that stands at another row of the same
 * group is a fault. */
static gd_status meet(simulation *s, int32_t rank, int32_t row, bool *moved) {
  const gd_action *a = action_of(s, rank, row);
  bool communicates = gd_action_communicates(a->kind);
  uint32_t axes = axes_of(&s->layouts[rank], a);
  int32_t mine, count = gd_mesh_group(&s->layouts[rank].mesh, rank, axes, s->members, &mine);
  for (int32_t i = 0; i < count; i++) {
    int32_t other = s->members[i], at = head_of(s, other, communicates);
    if (at < 0) return GD_OK;
    const gd_action *b = action_of(s, other, at);
    if (b->kind == a->kind && b->bucket == a->bucket) continue;
    if (axes_of(&s->layouts[other], b) != axes) return GD_OK;
    return gd_fail(GD_BUG, "rank %d, row %d (%s of %s) and rank %d, row %d (%s of %s): a group meets in two different rows",
                   rank, row, gd_action_name(a->kind), bucket_name(s, rank, a), other, at, gd_action_name(b->kind),
                   bucket_name(s, other, b));
  }
  for (int32_t i = 0; i < count; i++) finish(s, s->members[i], head_of(s, s->members[i], communicates));
  *moved = true;
  return GD_OK;
}

/* One past the message rows that travel together with the one at `row`. */
static int32_t messages_end(const simulation *s, int32_t rank, int32_t row) {
  while (row < s->plans[rank].count && row < s->runners[rank].compute && action_of(s, rank, row)->kind == GD_DO_MESSAGE) row++;
  return row;
}

/* The other half of the message at `row` among those at the head of its peer's stream; -1: none yet. */
static int32_t other_half(const simulation *s, int32_t rank, int32_t row) {
  const gd_action *a = action_of(s, rank, row);
  int32_t first = head_of(s, a->peer, true);
  for (int32_t k = first; first >= 0 && k < messages_end(s, a->peer, first); k++) {
    const gd_action *b = action_of(s, a->peer, k);
    if (!s->runners[a->peer].done[k] && b->peer == rank && b->sends != a->sends) return k;
  }
  return -1;
}

static gd_status pass_messages(simulation *s, int32_t rank, int32_t row, bool *moved) {
  for (int32_t k = row, end = messages_end(s, rank, row); k < end; k++) {
    const gd_action *a = action_of(s, rank, k);
    if (s->runners[rank].done[k]) continue;
    if (a->peer < 0 || a->peer >= s->ranks || a->peer == rank)
      return gd_fail(GD_BUG, "rank %d, row %d (message): there is no peer %d", rank, k, a->peer);
    int32_t there = other_half(s, rank, k);
    if (there < 0) continue;
    const gd_action *b = action_of(s, a->peer, there);
    if (b->micro != a->micro || b->chunk != a->chunk)
      return gd_fail(GD_BUG, "rank %d, row %d and rank %d, row %d (message): a pair's messages come in two orders", rank, k,
                     a->peer, there);
    finish(s, rank, k);
    finish(s, a->peer, there);
    *moved = true;
  }
  return GD_OK;
}

static gd_status advance(simulation *s, int32_t rank, bool communicates, bool *moved) {
  int32_t row = head_of(s, rank, communicates);
  if (row < 0) return GD_OK;
  const gd_action *a = action_of(s, rank, row);
  if (a->kind == GD_DO_MESSAGE) return pass_messages(s, rank, row, moved);
  if (axes_of(&s->layouts[rank], a)) return meet(s, rank, row, moved);
  finish(s, rank, row);
  *moved = true;
  return GD_OK;
}

static gd_status run(simulation *s) {
  bool moved = true;
  for (int32_t rank = 0; rank < s->ranks; rank++) settle(s, rank);
  while (moved) {
    moved = false;
    for (int32_t rank = 0; rank < s->ranks; rank++) {
      GD_TRY(advance(s, rank, false, &moved));
      GD_TRY(advance(s, rank, true, &moved));
    }
  }
  for (int32_t rank = 0; rank < s->ranks; rank++) {
    const runner *r = &s->runners[rank];
    int32_t row = r->communication < r->compute ? r->communication : r->compute;
    if (row < s->plans[rank].count)
      return gd_fail(GD_BUG, "rank %d, row %d (%s): waits for ever", rank, row, gd_action_name(action_of(s, rank, row)->kind));
  }
  return GD_OK;
}

gd_status gd_plan_check(const gd_layout *layouts, const gd_plan *plans, int32_t ranks) {
  int64_t rows = 0;
  if (ranks < 1) return gd_fail(GD_BUG, "the plans of %d ranks", ranks);
  for (int32_t rank = 0; rank < ranks; rank++) {
    GD_TRY(check_table(&layouts[rank], &plans[rank], rank));
    rows += plans[rank].count;
  }
  simulation s = {.layouts = layouts, .plans = plans, .ranks = ranks};
  s.runners = calloc((size_t)ranks, sizeof *s.runners);
  s.members = calloc((size_t)ranks, sizeof *s.members);
  uint8_t *done = calloc((size_t)rows + 1, 1), *next = done;
  gd_status status = GD_OK;
  if (!s.runners || !s.members || !done) status = gd_fail(GD_NO_MEMORY, "no memory to check the steps of %d ranks", ranks);
  for (int32_t rank = 0; rank < ranks && status == GD_OK; next += plans[rank++].count) s.runners[rank].done = next;
  if (status == GD_OK) status = run(&s);
  free(s.runners), free(s.members), free(done);
  return status;
}
