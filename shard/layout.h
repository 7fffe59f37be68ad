/* layout.h - every parameter and every activation of a spec on a mesh, for one rank: name, shape, dtype, box, owner, offset.
 * The trainer takes its pointers from here and the planner its bytes, so the two cannot drift apart.
 *
 * Three views of the parameters:
 *  - TENSORS are logical: names and shapes as on disk, the same on every layout ("layers.0.attention.query.weight" [H*D, C]).
 *  - PARAMETERS are what kernels see: blocks along the tensor axis, (blocks here, block_rows, block_cols), every block starting
 * at a multiple of GD_UNIT_ELEMS. A block of "qkv" holds the query, key and value rows of its heads together.
 *  - SEGMENTS tie them: a dense piece of a parameter block in memory is a box of a tensor.
 * Tensors, parameters and buckets are those of the whole model on every rank; segments, and places in arenas, only those of the
 * rank's own stage of the pipeline (stages take equal runs of layers; tables are with the first, final norm and head with the
 * last).
 * Parameters lie in BUCKETS (token table, position table, each layer, final norm, head), a bucket's length being a multiple of
 * GD_UNIT_ELEMS * data, so that its `data` PIECES are even: gd_deal_piece says which of them a data rank sums, saves and (ZeRO
 * 1) updates. A tied head has a bucket too, of gradients alone, behind those of the parameters.
 * A bucket is wholly trained or wholly frozen (shard/trained.h): a layer of which a part is frozen has two. What is frozen has
 * weights alone: no gradient, no state of the optimizer; and backward ends at the lowest layer that learns.
 */
#ifndef GD_SHARD_LAYOUT_H
#define GD_SHARD_LAYOUT_H

#include "shard/mesh.h"
#include "shard/shape.h"
#include "shard/tensor.h"

typedef enum gd_cut {
  GD_CUT_NONE,   /* replicated over the tensor axis */
  GD_CUT_COLUMN, /* column-parallel linear: blocks of output rows; also its bias and the vocabulary */
  GD_CUT_ROW,    /* row-parallel linear: blocks of input columns */
} gd_cut;

typedef struct gd_parameter {
  char name[GD_NAME_BYTES]; /* "layers.3.attention.qkv.weight" */
  gd_cut cut;
  int32_t bucket;
  int32_t first_block, blocks; /* here; all_blocks in total (1 for GD_CUT_NONE) */
  int32_t all_blocks;
  int64_t block_rows, block_cols; /* dense inside a block */
  int64_t block_elems;            /* distance of two blocks, a multiple of GD_UNIT_ELEMS */
  int64_t offset;                 /* of the first block here in its bucket, elements */
  bool trained;                   /* as its bucket */
  float lr_scale;                 /* factor of the learning rate */
  bool decay;                     /* a matrix */
  float init_std;                 /* > 0: normal; 0: the constant init_value */
  float init_value;
} gd_parameter;

typedef struct gd_segment {
  int32_t tensor, parameter;
  gd_box box;     /* of the tensor */
  int64_t offset; /* in its parameter's bucket, elements; dense box.rows x box.cols */
} gd_segment;

typedef struct gd_bucket {
  char name[GD_NAME_BYTES];
  int32_t layer;           /* whose backward completes its gradient; the tables: 0, final norm and head: L (the head's row) */
  int32_t stage, chunk;    /* of the pipeline: whose ranks compute with it, and in which of their chunks */
  bool trained;            /* else frozen */
  uint32_t axes;           /* of the mesh, along which ranks hold copies of it: the group that sums its gradient */
  int64_t elements, piece; /* piece: elements / data */
  int64_t offset;          /* of its weights in the arena of parameters; -1: not on this rank, or gradients alone */
  int64_t gradient_offset; /* of its gradient in a slot; -1: not on this rank, or frozen */
  int64_t
      state_offset; /* of what this rank updates of it in the optimizer's arena; -1: not on this rank, frozen, or gradients */
} gd_bucket;

/* Indices into parameters, -1 where the model has none. */
typedef struct gd_layer_parameters {
  int32_t norm1_weight, norm1_bias, qkv_weight, qkv_bias, projection_weight, projection_bias;
  int32_t norm2_weight, norm2_bias, up_weight, up_bias, down_weight, down_bias;
} gd_layer_parameters;

typedef struct gd_layout {
  gd_spec spec; /* resolved copy */
  gd_mesh mesh;
  int32_t rank;
  int32_t coordinates[GD_AXES];
  gd_shape shape;

  int32_t tensor_count, parameter_count, segment_count, bucket_count;
  gd_tensor *tensors; /* sorted by name */
  gd_parameter *parameters;
  gd_segment *segments;          /* those on this rank; ascending bucket and offset */
  int32_t gradient_bucket_count; /* bucket_count, and the tied head's */
  int32_t tied_head_bucket;      /* bucket_count, shaped like bucket 0, to which it is added; -1 = not tied, or frozen */
  gd_bucket *buckets;

  /* head: == token_table when tied; of a classifier its weight */
  int32_t token_table, position_table, final_norm_weight, final_norm_bias, head;
  gd_layer_parameters *layers;
  /* The lowest layer that backward goes through, L: none, only the head's row learns; and whether the tables behind it do. */
  int32_t lowest_layer;
  bool tables_trained;
  bool head_goes_back;      /* something before the head learns: its input needs a gradient */
  int64_t trained_elements; /* of the whole model, true (not padded); a tied head counts once */

  int64_t arena_elems;    /* parameters */
  int64_t gradient_elems; /* of a slot: what is trained of arena_elems, and the tied head's bucket */
  int64_t state_elems;    /* what this rank's optimizer updates: all that is trained (ZeRO 0) or its pieces of it (ZeRO 1) */
} gd_layout;

/* Local. spec must be resolved. GD_USAGE: patterns of finetune.train or optimizer.lr_scale that do not fit the model;
 * GD_NO_MEMORY. */
GD_CHECKED gd_status gd_layout_create(const gd_spec *spec, const gd_mesh *mesh, int32_t rank, gd_layout *out);
void gd_layout_free(gd_layout *layout);

/* Elements [offset, offset + elements) of a bucket. */
typedef struct gd_range {
  int64_t offset, elements;
} gd_range;

/* The piece of a bucket that a data rank sums and saves; and what this rank's optimizer updates of it: its piece (ZeRO 1) or
 * the whole of it. */
gd_range gd_layout_piece(const gd_layout *layout, int32_t bucket, int32_t data_rank);
gd_range gd_layout_updated(const gd_layout *layout, int32_t bucket);
/* The largest piece of all gradients, elements. */
int64_t gd_layout_largest_piece(const gd_layout *layout);

/* Where element `offset` of a bucket, of those that this rank updates, is in the optimizer's arena. */
int64_t gd_layout_state(const gd_layout *layout, int32_t bucket, int64_t offset);

/* A dense run of elements that is one box: where it is in a bucket. */
typedef struct gd_owned_box {
  int32_t tensor, parameter, bucket;
  gd_box box;
  int64_t offset;
} gd_owned_box;

typedef enum gd_ownership {
  GD_OWN_SAVED, /* my piece of every bucket, replicated parameters on tensor rank 0 only: over all ranks each element once */
  GD_OWN_STATE, /* all that my optimizer updates: what a resume reads */
  GD_OWN_ALL,   /* every parameter here: what generation reads */
} gd_ownership;

/* Cuts ranges of buckets into boxes (at most three a segment), in the order of the arena. The caller frees *out. Local. */
GD_CHECKED gd_status gd_layout_owned(const gd_layout *layout, gd_ownership which, gd_owned_box **out, int32_t *count);

/* Whether a parameter learns; -1, a parameter that the model has not, does not. */
bool gd_layout_trains(const gd_layout *layout, int32_t parameter);

/* Units of the pieces whose gradients this rank sums, and, frozen ones among them, whose weights it saves. */
int64_t gd_layout_piece_units(const gd_layout *layout);
int64_t gd_layout_saved_units(const gd_layout *layout);

/* ---- activations of one micro-batch ---- */

typedef enum gd_lifetime {
  GD_KEPT_FOR_BACKWARD, /* until the gradients of activations are through the layer */
  GD_KEPT_FOR_WEIGHTS,  /* until the gradients of parameters are, too: what a weight gradient is a product with */
  GD_RECOMPUTED,        /* inside a layer: forward does not keep it, backward makes it anew */
  GD_WORKSPACE,         /* inside a layer or the head */
} gd_lifetime;
const char *gd_lifetime_name(gd_lifetime lifetime);
static inline bool gd_lifetime_is_kept(gd_lifetime lifetime) {
  return lifetime == GD_KEPT_FOR_BACKWARD || lifetime == GD_KEPT_FOR_WEIGHTS;
}

/* A tensor that a micro-batch holds besides parameters and their gradients. `copies` of it (a layer each where backward needs
 * them: below what is frozen nothing is kept) are `stride` bytes apart. */
typedef struct gd_activation_entry {
  const char *name;
  const char *shape; /* for people: "[blocks][B*T][3*H*D/R]" */
  gd_dtype dtype;
  gd_lifetime lifetime;
  int32_t copies;
  int32_t first_layer;    /* the layer of the first copy, which those below share */
  int64_t elements;       /* of one copy */
  int64_t offset, stride; /* bytes, in a slot of the activation arena or in the workspace arena */
} gd_activation_entry;

typedef enum gd_activation_id {
  GD_A_RESIDUAL, /* copies L + 1: input of each layer, then of the final norm; [rows here][C] */
  GD_A_NORM1,
  GD_A_NORM1_MEAN,
  GD_A_NORM1_RSTD,
  GD_A_QKV,
  GD_A_ATTENTION,
  GD_A_LSE,
  GD_A_MIDDLE,
  GD_A_NORM2,
  GD_A_NORM2_MEAN,
  GD_A_NORM2_RSTD,
  GD_A_UP,
  GD_A_ACTIVATED,
  GD_A_FINAL,
  GD_A_FINAL_MEAN,
  GD_A_FINAL_RSTD,
  GD_A_TOKENS,
  GD_A_TARGETS,
  GD_A_WEIGHTS,
  GD_A_DOCUMENTS,
  GD_A_SLOTS,      /* inference: of each row its slot of the cache */
  GD_A_POSITIONS,  /* of each row its position: inference, and where documents begin anew */
  GD_A_LABEL_ROWS, /* of a classifier, this and the next four: a number, or label_columns, for each of its rows */
  GD_A_LABEL_GIVEN,
  GD_A_LABEL_ORDER, /* these two only where tensor > 1 */
  GD_A_LABELS,
  GD_A_LABEL_WEIGHTS,
  GD_W_GATHERED,
  GD_W_GATHERED_GRADIENT, /* [B*T][C] stored; only where tensor > 1 */
  GD_W_PARTIAL,
  GD_W_RECEIVED, /* [B*T][C] float32; received only where tensor > 1 */
  GD_W_DRESIDUAL,
  GD_W_DNORM, /* [rows here][C] stored */
  GD_W_DQKV,
  GD_W_DATTENTION,
  GD_W_DELTA,
  GD_W_DUP,
  GD_W_DACTIVATED,
  GD_W_LEAVES1,
  GD_W_LEAVES2, /* [leaves of all tensor ranks][widest vector] float32 */
  GD_W_LOGITS, /* this and what follows up to the sums: of a strip of the head; inference has the logits of all rows, no more */
  GD_W_ROW_MAX,
  GD_W_BLOCK_SUM,
  GD_W_BLOCK_TARGET,
  GD_W_ROW_SUM,
  GD_W_ROW_TARGET,
  GD_W_HEAD_SUMS, /* [levels][head's block_elems * blocks] float32: gradients of strips that wait for their siblings */
  GD_W_ROW_LOSS,
  GD_W_PICKED,
  GD_W_DPICKED, /* [rows of the classifier][C] stored: inputs of its norm, and their gradients */
  GD_ACTIVATION_IDS
} gd_activation_id;

typedef struct gd_activations {
  int32_t sequences; /* most a micro-batch has */
  int64_t rows;      /* B * T */
  int64_t rows_here; /* rows / tensor: the residual stream and the norms */
  int64_t head_rows; /* most rows of a strip of the head; backward only, and no classifier's */
  int64_t documents; /* most rows of a classifier: chunks x chunk_documents */
  gd_activation_entry entries[GD_ACTIVATION_IDS];
  int32_t slots;      /* micro-batches alive at once */
  int64_t slot_bytes; /* what one of them keeps */
  int64_t kept_bytes, workspace_bytes;
} gd_activations;

/* backward: false is for inference: nothing is kept for backward, and all rows are on every tensor rank. Local.
 *
 * The head takes a micro-batch in strips of rows: logits, loss and gradients of one before those of the next, so that no more
 * than the logits of a strip are held. head_rows: the most rows of a strip; 0: chosen from the layout and `sequences` alone.
 * fast: as many as fit into the workspace that the backward of a layer takes anyhow (head and layers share their bytes), at
 * least 1024; then all strips alike, in whole 256 rows. The weight gradient is one chain through them.
 * invariant: a power of two of time blocks, so that a strip's part of the weight gradient is a complete node; each level of
 * the tree above the strips takes a buffer of the head's size. The most rows with which all this fits into the workspace of a
 * layer; where none do, those that take least; at least 1024. Given in place of 0: fast: even; invariant: such a power. */
void gd_layout_activations(const gd_layout *layout, int32_t sequences, bool backward, int64_t head_rows, gd_activations *out);

/* Rows of a leaf of vector gradients (norms, biases): T / (K R) in invariant, at most 256 in fast, where the last leaf may be
 * shorter; and the leaves of so many rows. */
int64_t gd_layout_leaf_rows(const gd_layout *layout, int64_t rows_here);
int64_t gd_layout_leaves(const gd_layout *layout, int64_t rows_here);
/* Rows of a leaf of the token table's gradient: a time block in invariant, 256 in fast. */
int64_t gd_layout_token_leaf(const gd_layout *layout);
/* Inner leaf of weight gradients: min(T / K, 256) in invariant, 0 (one chain) in fast. */
int64_t gd_layout_time_leaf(const gd_layout *layout);

#endif
