/* arenas.h - a rank's model as memory: the arenas of parameters, gradients and activations, the pointers into them, and what a
 * micro-batch is. Below the sums (reduce.h) and the layers (layers/layers.h), which all work on it; model.h puts the layers in
 * order.
 *
 * Rows: a micro-batch is B sequences of T tokens, rows = B * T in (sequence, t) order. Between the products the residual stream
 * is cut over the tensor axis (rows_here = rows / tensor, neighbouring rows to neighbouring ranks: sequence parallelism,
 * Korthikanti et al. 2022); an inference model keeps all rows on every tensor rank (rows_here = rows), since a generated token
 * is one row.
 */
#ifndef GD_TRAINER_ARENAS_H
#define GD_TRAINER_ARENAS_H

#include "comm/session.h"
#include "shard/memory.h"
#include "shard/tree.h"
#include "trainer/kernels.h"

typedef enum gd_dropout_site {
  GD_DROPOUT_EMBEDDING = 1,
  GD_DROPOUT_ATTENTION,
  GD_DROPOUT_PROJECTION,
  GD_DROPOUT_DOWN
} gd_dropout_site;

/* Keys and values of earlier tokens, for inference: [layer][block][slot][capacity][2 * Hkv/R * D] stored, keys first in a row.
 * Each slot holds a text of its own. */
typedef struct gd_cache {
  void *memory;
  int32_t slots;
  int32_t capacity; /* tokens of a slot */
  int32_t *lengths; /* [slots], host: tokens in each; whoever makes one smaller forgets what came behind */
  int32_t *places;  /* [2][rows of a call], host: slots, then positions of the rows of the call at hand */
} gd_cache;

/* Rows of a slot in a call for inference. */
typedef struct gd_infer_part {
  int32_t slot;
  int32_t rows;       /* >= 1, behind what is in the slot */
  int32_t logit_rows; /* logits are wanted of the last so many */
} gd_infer_part;

typedef struct gd_model {
  gd_layout layout;
  gd_activations activations;
  gd_session *session;
  gd_device *device;
  gd_kernels kernels;
  gd_group *tensor, *data, *world;
  bool inference;                      /* no backward, no gradients, all rows on every tensor rank */
  void *parameters;                    /* arena_elems stored */
  float *gradients;                    /* [slots][gradient_elems] */
  char *kept, *workspace;              /* layout's activation arenas */
  gd_cache cache;                      /* inference only */
  size_t *piece_sizes, *piece_offsets; /* [data], scratch of gd_reduce_gather_pieces */
  gd_event **gathered;                 /* [bucket_count] or NULL: forward waits for a bucket's weights; entries may be NULL */
  gd_memory memory[GD_MEMORY_IDS];
  bool taken[GD_MEMORY_IDS];
  uint64_t seed;
} gd_model;

/* Where a micro-batch's gradients go: complete nodes of the tree over the global batch's time blocks (shard/deal.h), each in a
 * gradient slot. */
typedef struct gd_micro {
  int32_t sequences;
  int64_t rows, rows_here;
  int64_t first_sequence;     /* in the global batch */
  int32_t slot;               /* where its activations are kept */
  int64_t step;               /* keys the dropout masks */
  float dropout;              /* probability; 0: none (validation, inference) */
  bool accumulate;            /* fast: add to slot 0 */
  const gd_infer_part *parts; /* inference: whose the rows are */
  int32_t part_count;
  const float *target_weights; /* [rows], host: where they are 0 the head has nothing to do; NULL: not known */
  int32_t label_depth;         /* classifier: places of a chunk (trainer/labels.h) */
  int64_t label_row;           /* classifier: row of its batch that is the first one here */
  int64_t label_place;         /* classifier: place of its batch that is the first one here */
  int32_t node_count;
  gd_tree_node nodes[GD_TREE_MAX_NODES]; /* in time blocks of this micro-batch, as its rows lie: block s K + k */
  int32_t slots[GD_TREE_MAX_NODES];
  int32_t merge_count;
  gd_tree_add merges[GD_TREE_MAX_NODES + GD_TREE_LEVELS]; /* of slots, once a bucket's gradients are there */
} gd_micro;

/* Takes the memory for micro-batches of at most spec->batch.micro sequences. cache_slots > 0: for inference, with so many slots
 * of cache_tokens each; spec->batch.sequence is the most rows of one call. Collective over the job. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_model_open(gd_session *session, gd_device *device, const gd_spec *spec, const gd_mesh *mesh,
                                   int32_t cache_slots, int32_t cache_tokens, gd_model *out);
void gd_model_close(gd_model *model);
/* Memory by its name in shard/memory.h, once; *out is NULL where its size is 0. `zeroed`: filled on the compute stream. Give it
 * back with gd_model_give. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_model_take(gd_model *model, gd_memory_id id, bool zeroed, void *out);
/* The same for device memory that begins as a copy of `host`, of its size; the copy is made on return. */
GD_CHECKED gd_status gd_model_take_copy(gd_model *model, gd_memory_id id, const void *host, void *out);
void gd_model_give(gd_model *model, gd_memory_id id, void *memory);
/* The kernels of the session's device. Local. */
GD_CHECKED gd_status gd_model_open_kernels(gd_session *session, gd_device *device, int32_t threads, gd_kernels *out);

/* A micro-batch with its sizes; no gradients. */
gd_micro gd_model_micro(const gd_model *model, int32_t sequences, int64_t first_sequence, int64_t step);

/* What a micro-batch keeps (GD_A_*), in its slot; copy: the layer, or 0 where there is one for all. Layers that keep nothing
 * for backward write over each other. */
void *gd_model_kept(const gd_model *model, const gd_micro *micro, gd_activation_id id, int32_t copy);
static inline float *gd_model_kept_float(const gd_model *model, const gd_micro *micro, gd_activation_id id, int32_t copy) {
  return gd_model_kept(model, micro, id, copy);
}
/* What lives inside a layer or the head (GD_W_*). */
void *gd_model_workspace(const gd_model *model, gd_activation_id id);
static inline float *gd_model_workspace_float(const gd_model *model, gd_activation_id id) {
  return gd_model_workspace(model, id);
}
/* A bucket's weights (stored), and its gradient in slot `slot`. */
void *gd_model_bucket(const gd_model *model, int32_t bucket);
float *gd_model_bucket_gradient(const gd_model *model, int32_t slot, int32_t bucket);
/* Block `block` (here) of a parameter; NULL for parameter -1. Stored. */
const void *gd_model_parameter(const gd_model *model, int32_t parameter, int32_t block);
/* The compute stream waits for these parameters' buckets, which come from the ranks that updated them; what is frozen, and
 * parameter -1, is there. Local. */
GD_CHECKED gd_status gd_model_await(gd_model *model, const int32_t *parameters, int count);
/* The same place in gradient slot `slot`. */
float *gd_model_gradient(const gd_model *model, int32_t slot, int32_t parameter, int32_t block);
/* The rng of a dropout site in a layer at the micro-batch's step. */
gd_rng gd_model_dropout_rng(const gd_model *model, const gd_micro *micro, gd_dropout_site site, int32_t layer);

/* Global row (sequence * T + t) of the first row here: index of the dropout masks. */
int64_t gd_model_first_row(const gd_model *model, const gd_micro *micro);

#endif
