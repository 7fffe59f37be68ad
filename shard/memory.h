/* memory.h - what a rank takes from its device and as host memory that copies reach, by name and bytes: the trainer takes each
 * of these once (gd_model_take), of this size, and the plan prints them, so what is planned is what is taken. Memory of the
 * kernels themselves (scratch of threads, workspace of a library) is not among them: gd_memory_of_gpu.
 */
#ifndef GD_SHARD_MEMORY_H
#define GD_SHARD_MEMORY_H

#include "shard/layout.h"

/* What a process on the CPU holds besides, at most, where all of this is resident: programs and libraries, MPI, the tokenizer,
 * what is on its way from and to files (tests/numerics/test_memory_held.sh). */
enum { GD_PROCESS_BYTES = 64 << 20 };

/* sizeof(gd_verdict), which is the kernels' business. */
enum { GD_VERDICT_BYTES = 64 };

typedef enum gd_memory_id {
  GD_M_PARAMETERS, /* stored */
  GD_M_GRADIENTS,  /* [slots][gradient_elems] float32 */
  GD_M_MASTER,     /* [state_elems] float32, bfloat16 runs */
  GD_M_FIRST,      /* [state_elems] float32 */
  GD_M_SECOND,     /* [state_elems] float32, AdamW */
  GD_M_DECAY,      /* [state_elems / unit] bytes */
  GD_M_ACTIVATIONS,
  GD_M_WORKSPACE,
  GD_M_CACHE,               /* keys and values, inference */
  GD_M_EXCHANGE,            /* received gradients, data > 1 */
  GD_M_UNIT_SUMS,           /* [units of my pieces that are trained] float32 */
  GD_M_NODES,               /* of the gradient norm: mine, received, summed (shard/norm.h); float64 */
  GD_M_NODE_INDEX,          /* who is a part of which; int32 */
  GD_M_SEQUENCE_SUMS,       /* [share][2] float32 */
  GD_M_ALL_SEQUENCE_SUMS,   /* [global][2] float32 */
  GD_M_VALIDATION_SUMS,     /* [share][2] float32, where there is a validation */
  GD_M_ALL_VALIDATION_SUMS, /* [global][2] float32 */
  GD_M_VERDICT,
  GD_M_FLAGS,           /* [2 steps][4] int64 */
  GD_M_HOST_SNAPSHOT,   /* [elements of my pieces], [moments][elements of those that are trained] float32 */
  GD_M_HOST_VALIDATION, /* [global][2] float32 */
  GD_M_HOST_VERDICT,    /* [2 steps] */
  GD_M_HOST_FLAGS,
  GD_M_HOST_BATCHES,           /* [2 steps]: a number of 4 bytes for each token, and what a classifier's documents have
                                  (io/data/dataset.h) */
  GD_M_HOST_VALIDATION_BATCH,  /* one such, where there is a validation */
  GD_M_HOST_LABELS,            /* [2 steps]: rows, labels, weights of a classifier's rows, 4 bytes each */
  GD_M_HOST_VALIDATION_LABELS, /* one such, where there is a validation */
  GD_M_HOST_VALIDATION_LOGITS, /* float32, of as many */
  GD_MEMORY_IDS
} gd_memory_id;

/* How a plan groups them. */
typedef enum gd_memory_group {
  GD_MEMORY_PARAMETERS,
  GD_MEMORY_GRADIENTS,
  GD_MEMORY_OPTIMIZER,
  GD_MEMORY_ACTIVATIONS,
  GD_MEMORY_WORKSPACE,
  GD_MEMORY_EXCHANGE,
  GD_MEMORY_VOTE, /* gradient norm, losses, verdict, flags */
  GD_MEMORY_HOST,
  GD_MEMORY_GROUPS
} gd_memory_group;

typedef struct gd_memory {
  const char *name;
  gd_memory_group group;
  int64_t bytes; /* 0: not taken */
} gd_memory;

/* A training run with micro-batches of batch.micro sequences. A run without a validation split does not take what belongs to
 * it. Local. */
void gd_memory_of_training(const gd_layout *layout, gd_memory out[GD_MEMORY_IDS]);
/* The same for that rank of the data axis which needs most for sums of gradients: where shares are no power of two some hold
 * more of them than others. (What else differs between them is the norm's, a few kilobytes.) */
void gd_memory_of_largest(const gd_layout *layout, gd_memory out[GD_MEMORY_IDS]);
/* Inference: batch.sequence rows at most a call, keys and values of `cache_slots` times `cache_tokens` tokens. Local. */
void gd_memory_of_inference(const gd_layout *layout, int32_t cache_slots, int32_t cache_tokens, gd_memory out[GD_MEMORY_IDS]);

/* What a GPU holds besides: scratch of the kernels, workspace of cuBLASLt (both taken once, of this size), and an estimate of
 * the CUDA context, the kernels' code and, with several ranks, NCCL's buffers, which depend on GPU, driver and network and were
 * not measured. */
enum { GD_GPU_SCRATCH_BYTES = 128 << 20, GD_GPU_WORKSPACE_BYTES = 32 << 20 };
typedef struct gd_gpu_memory {
  int64_t scratch, workspace, context_estimate;
  int64_t total; /* with what gd_memory_device_bytes counts */
} gd_gpu_memory;
void gd_memory_of_gpu(const gd_memory memory[GD_MEMORY_IDS], int32_t ranks, gd_gpu_memory *out);

const char *gd_memory_group_name(gd_memory_group group);
int64_t gd_memory_group_bytes(const gd_memory memory[GD_MEMORY_IDS], gd_memory_group group);
/* All groups of the device. */
int64_t gd_memory_device_bytes(const gd_memory memory[GD_MEMORY_IDS]);

#endif
