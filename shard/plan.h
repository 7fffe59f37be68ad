/* plan.h - a whole training step as a table of rows, for one rank and for a thousand: trainer/step.c walks it, --dry-run prints
 * it, gd_plan_check (plan_check.h) proves that the tables of all ranks fit together.
 *
 * Rows begin in their order. reduce, gather and message run on the communication stream, all others on the compute stream; each
 * stream ends its rows in their order. A row that needs what the other stream does names the row that it waits for.
 */
#ifndef GD_SHARD_PLAN_H
#define GD_SHARD_PLAN_H

#include "shard/layout.h"
#include "shard/schedule.h"

typedef enum gd_action_kind {
  GD_DO_FORWARD,         /* layers of a micro-batch, ascending; the embedding before layer 0 */
  GD_DO_HEAD,            /* final norm, logits, loss and, where a backward follows, their gradients */
  GD_DO_BACKWARD,        /* layers of a micro-batch, descending; the embedding after layer 0 */
  GD_DO_BACKWARD_INPUT,  /* the two halves of a backward apart: gradients of the activations */
  GD_DO_BACKWARD_WEIGHT, /* ... and of the parameters */
  GD_DO_RECOMPUTE,       /* forward once more, of what was not kept */
  GD_DO_GATHER,          /* a bucket's weights from the owners of its pieces to all that hold it */
  GD_DO_FREE,            /* its gathered weights are not needed until the next gather */
  GD_DO_REDUCE,          /* a bucket's gradients, summed over the ranks that hold it, to the owners of its pieces */
  GD_DO_MESSAGE,         /* activations or their gradients to or from another stage; neighbouring rows travel together */
  GD_DO_VOTE,            /* loss, gradient norm, finite? stop? the same verdict on every rank */
  GD_DO_UPDATE,          /* the optimizer on what is mine, where the verdict says so */
  GD_ACTION_KINDS
} gd_action_kind;

enum {
  GD_WAITS_NOTHING = -1,
  GD_WAITS_STEP_BEFORE = -2, /* for its buckets' weights, gathered at the end of the step before */
};

typedef struct gd_action {
  gd_action_kind kind;
  int32_t micro, chunk;        /* -1: the whole step */
  int32_t sequences;           /* of the micro-batch; 0: the whole step */
  int32_t first_layer, layers; /* 0 layers: none; backward from first_layer down */
  int32_t bucket;              /* gather, free, reduce; else -1 */
  int32_t slot;                /* where the micro-batch's kept activations are; -1: none */
  int32_t peer;                /* message: the other rank; else -1 */
  bool sends;
  int32_t waits_for; /* an earlier row, or one of the two above */
} gd_action;

typedef struct gd_plan {
  int32_t count;
  int32_t slots; /* activation slots in use at once, at most */
  gd_action *actions;
} gd_plan;

/* A training step of layout->rank. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_plan_create(const gd_layout *layout, gd_plan *out);
/* One global batch of the validation split: forward and head. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_plan_create_validation(const gd_layout *layout, gd_plan *out);
void gd_plan_free(gd_plan *plan);

const char *gd_action_name(gd_action_kind kind);
/* Which head the head's rows are of: "lm", "classifier". */
const char *gd_plan_head(const gd_layout *layout);
bool gd_action_communicates(gd_action_kind kind);
/* Whether the row works on a bucket's weights or gradients: its layers are among the row's. */
bool gd_action_covers(const gd_action *action, const gd_layout *layout, int32_t bucket);

/* The *rows rows from `row` on come *repeats times, the same but for micro-batch, layer, bucket and slot, which advance by one
 * or not at all: what is printed once. */
void gd_plan_repeats(const gd_plan *plan, int32_t row, int32_t *rows, int32_t *repeats);
/* One line of the printed table, of a row that comes `repeats` times, every `rows` rows; row -1 gives the heading. Returns out.
 */
const char *gd_plan_line(const gd_plan *plan, const gd_layout *layout, int32_t row, int32_t rows, int32_t repeats, char *out,
                         size_t bytes);

#endif
