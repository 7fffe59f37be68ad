/* plan.c - writes the rows of the step table: which action, on which sequences, in which order. */
#include "shard/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"

const char *gd_action_name(gd_action_kind kind) {
  static const char *const names[] = {"forward", "backward", "reduce_finish", "vote", "update", "gather"};
  return names[kind];
}

static void append(gd_plan *plan, gd_action action) {
  action.clock = plan->count;
  plan->actions[plan->count++] = action;
}

gd_status gd_plan_create(const gd_spec *spec, const gd_mesh *mesh, gd_plan *out) {
  int32_t data = mesh->size[GD_AXIS_DATA], layers = spec->model.layers, rounds = gd_deal_rounds(spec, data);
  int32_t share = gd_deal_share(spec, data, 0).sequences;
  bool reduces = data > 1;
  memset(out, 0, sizeof *out);
  out->actions = calloc((size_t)(2 * rounds + 4), sizeof *out->actions);
  if (!out->actions) return gd_fail(GD_NO_MEMORY, "no memory for a step of %d micro-batches", rounds);
  for (int32_t m = 0; m < rounds; m++) {
    gd_deal round = gd_deal_round(spec, data, 0, m); /* data rank 0's stand where its share does */
    int32_t first = (int32_t)round.first_sequence, count = round.sequences;
    append(out, (gd_action){0, GD_DO_FORWARD, m, first, count, 0, layers, ""});
    append(out, (gd_action){0, GD_DO_BACKWARD, m, first, count, 0, layers, ""});
  }
  append(out, (gd_action){0, GD_DO_REDUCE_FINISH, -1, 0, share, 0, layers, reduces ? "the exchange of each bucket" : ""});
  append(out, (gd_action){0, GD_DO_VOTE, -1, 0, share, 0, layers, ""});
  append(out, (gd_action){0, GD_DO_UPDATE, -1, 0, share, 0, layers, ""});
  if (reduces && spec->parallel.zero >= 1) append(out, (gd_action){0, GD_DO_GATHER, -1, 0, share, 0, layers, ""});
  return GD_OK;
}

void gd_plan_free(gd_plan *plan) {
  free(plan->actions);
  memset(plan, 0, sizeof *plan);
}

/* The same work on another micro-batch. */
static bool alike(const gd_action *a, const gd_action *b) {
  return a->kind == b->kind && a->micro >= 0 && b->micro >= 0 && a->sequences == b->sequences &&
         a->first_layer == b->first_layer && a->layers == b->layers && strcmp(a->waits_for, b->waits_for) == 0;
}

int32_t gd_plan_repeats(const gd_plan *plan, int32_t row, int32_t *rows) {
  const gd_action *a = plan->actions + row;
  int32_t left = plan->count - row, count = 1, same;
  while (count < left && a[0].micro >= 0 && a[count].micro == a[0].micro) count++;
  for (same = count; same < left && alike(&a[same], &a[same % count]);) same++;
  *rows = count;
  return same / count;
}

const char *gd_plan_line(const gd_plan *plan, int32_t row, int32_t repeats, char *out, size_t bytes) {
  if (row < 0) {
    snprintf(out, bytes, "%8s  %-14s %15s %7s %10s %8s  %s", "clock", "action", "micro-batches", "of them", "sequences",
             "layers", "waits for");
    return out;
  }
  const gd_action *a = &plan->actions[row];
  char micro[32] = "-", count[16] = "-", layers[32];
  if (a->micro >= 0) {
    int used = snprintf(micro, sizeof micro, "%d", a->micro);
    if (repeats > 1) snprintf(micro + used, sizeof micro - (size_t)used, "-%d", a->micro + repeats - 1);
    snprintf(count, sizeof count, "%d", repeats);
  }
  snprintf(layers, sizeof layers, "%d-%d", a->first_layer, a->first_layer + a->layers - 1);
  bool mine = a->kind == GD_DO_UPDATE, all = a->micro < 0 && !mine;
  snprintf(out, bytes, "%8d  %-14s %15s %7s %10d %8s  %s", a->clock, gd_action_name(a->kind), micro, count, a->sequences,
           mine  ? "mine"
           : all ? "all"
                 : layers,
           a->waits_for);
  return out;
}
