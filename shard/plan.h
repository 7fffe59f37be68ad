/* plan.h - a whole training step as a table of actions, for one rank and for a thousand: trainer/step.c walks it, --dry-run
 * prints it. */
#ifndef GD_SHARD_PLAN_H
#define GD_SHARD_PLAN_H

#include "shard/mesh.h"
#include "shard/spec.h"

typedef enum gd_action_kind {
  GD_DO_FORWARD,       /* layers of a micro-batch, loss and the head's gradient with the last layer */
  GD_DO_BACKWARD,      /* gradients of a bucket leave for their owners when the last micro-batch is through its layer */
  GD_DO_REDUCE_FINISH, /* gradients of my pieces are whole */
  GD_DO_VOTE,          /* loss, gradient norm, finite? the same verdict on every rank */
  GD_DO_UPDATE,        /* the optimizer on what is mine, where the verdict says so */
  GD_DO_GATHER,        /* updated parameters to every data rank (ZeRO 1) */
} gd_action_kind;

typedef struct gd_action {
  int32_t clock;
  gd_action_kind kind;
  int32_t micro;                     /* -1: the whole step */
  int32_t first_sequence, sequences; /* of this data rank's share */
  int32_t first_layer, layers;
  const char *waits_for; /* static text, "" = nothing */
} gd_action;

typedef struct gd_plan {
  int32_t count;
  gd_action *actions;
} gd_plan;

/* Local. spec must be resolved. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_plan_create(const gd_spec *spec, const gd_mesh *mesh, gd_plan *out);
void gd_plan_free(gd_plan *plan);
const char *gd_action_name(gd_action_kind kind);

/* From `row` on, the rows of one micro-batch (or one row of the whole step), *rows of them, are the same for so many
 * micro-batches in a row: what is printed once. */
int32_t gd_plan_repeats(const gd_plan *plan, int32_t row, int32_t *rows);
/* One line of the printed table for the row of the first of `repeats` micro-batches; row -1 gives the heading. Returns out. */
const char *gd_plan_line(const gd_plan *plan, int32_t row, int32_t repeats, char *out, size_t bytes);

#endif
