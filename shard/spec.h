/* spec.h - a model and a run as plain numbers. One struct a section of the run file, in the run file's order;
 * io/config/config.c fills it from YAML and the command line through one key table, rank 0 broadcasts it as bytes, a
 * checkpoint's manifest carries it. Nothing here points anywhere. Defaults live in the key table (io/config/keys.c), not here.
 */
#ifndef GD_SHARD_SPEC_H
#define GD_SHARD_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/dtype.h"
#include "shard/base/status.h"
#include "shard/rope.h"
#include "shard/tensor.h"

enum { GD_PATH_BYTES = 1024, GD_MAX_SOURCES = 16, GD_MAX_PATTERNS = 24, GD_UNIT_ELEMS = 1024 };

/* Of the sums (docs/rounding.md, "Versions of the numbers"). */
enum { GD_NUMBERS_VERSION = 3 };

/* What the kernels are made for: tiles of attention, and the sort of the embedding's gradient. */
enum { GD_MAX_HEAD_SIZE = 256, GD_MAX_MICRO_TOKENS = 262144 };

typedef enum gd_norm { GD_NORM_LAYERNORM, GD_NORM_RMSNORM } gd_norm;
/* gelu_tanh is GPT-2's approximation (Hendrycks and Gimpel 2016); swiglu: silu(gate) * up (Shazeer 2020). */
typedef enum gd_activation { GD_ACTIVATION_GELU_TANH, GD_ACTIVATION_GELU, GD_ACTIVATION_SWIGLU } gd_activation;
/* Biases of linear layers, a sum of these; norm biases go with layernorm. */
typedef enum gd_bias { GD_BIAS_NONE = 0, GD_BIAS_QKV = 1, GD_BIAS_PROJECTION = 2, GD_BIAS_MLP = 4, GD_BIAS_ALL = 7 } gd_bias;
typedef enum gd_position { GD_POSITION_LEARNED, GD_POSITION_ROTARY } gd_position;

typedef struct gd_model_spec {
  int32_t layers;     /* L */
  int32_t heads;      /* H, query heads */
  int32_t kv_heads;   /* key/value heads; 0 in the file means = heads */
  int32_t width;      /* C */
  int32_t head_size;  /* D; 0 in the file means width / heads */
  int32_t ffn;        /* F, inner width of the mlp; 0 in the file means 4 * width */
  int32_t vocabulary; /* V, the true size; 0 in the file means the tokenizer's */
  int32_t context;    /* longest sequence, rows of the position table */
  int32_t classes;    /* outputs of a classifier in the head's place; 0: the head of a language model */
  gd_norm norm;
  gd_activation activation;
  gd_position position;
  gd_bias bias;
  bool tied_head; /* the head is the token embedding */
  float norm_epsilon;
  float rope_theta;
  gd_rope rope;
  float dropout;                 /* embedding, attention weights, both residual branches */
  float init_std;                /* normal(0, init_std); residual projections by 1/sqrt(2L) more (GPT-2) */
  char init_from[GD_PATH_BYTES]; /* weights only, from a checkpoint or a Hugging Face folder; "" = random */
} gd_model_spec;

typedef enum gd_device_kind { GD_DEVICE_AUTO, GD_DEVICE_CPU, GD_DEVICE_CUDA, GD_DEVICE_LAZY, GD_DEVICE_EAGER } gd_device_kind;

typedef struct gd_run_spec {
  char directory[GD_PATH_BYTES];
  uint64_t seed;
  int64_t steps; /* optimizer steps of the whole run */
  float epochs;  /* in place of steps, which is made of it and the data; then 0 */
  gd_device_kind device;
  int32_t threads;    /* OpenMP threads a rank; 0 = cores of the node / ranks on it */
  int64_t max_time_s; /* stop, save and leave with 75 after this long; 0 = never */
  int32_t watchdog_s; /* no progress for this long: name the rank and the call, leave with 76; -1 = by the pace of the steps, 0
                         = off */
} gd_run_spec;

typedef struct gd_data_spec {
  int32_t sources;
  char path[GD_MAX_SOURCES][GD_PATH_BYTES]; /* dataset folders written by gptdist-data prepare */
  float weight[GD_MAX_SOURCES];
  char validation[GD_PATH_BYTES]; /* "" = PATH[0]/validation where it exists */
  bool mask_documents;            /* attention does not look across document boundaries */
  bool reset_positions;           /* positions begin anew in each document; with mask_documents */
  int32_t prefetch;               /* batches read ahead */
} gd_data_spec;

/* Names of tensors as on disk, with the wildcards of a shell (*, ?, [a-b]), each with a number. */
typedef struct gd_patterns {
  int32_t count;
  char text[GD_MAX_PATTERNS][GD_NAME_BYTES];
  float value[GD_MAX_PATTERNS];
} gd_patterns;

/* What the data must be for. */
typedef enum gd_finetune_task {
  GD_FINETUNE_AUTO,
  GD_FINETUNE_LM,
  GD_FINETUNE_CLASSIFICATION,
  GD_FINETUNE_SFT
} gd_finetune_task;

/* Of a classifier: cross entropy over the classes, or of each class by itself; AUTO is settled by the data. */
typedef enum gd_label_loss { GD_LABEL_LOSS_AUTO, GD_LABEL_LOSS_SOFTMAX, GD_LABEL_LOSS_SIGMOID } gd_label_loss;

/* Of the documents of a class in the loss. count 0: all weigh 1; GD_WEIGHTS_BALANCED: documents / (classes x its documents). */
enum { GD_MAX_CLASS_WEIGHTS = 128, GD_WEIGHTS_BALANCED = -1 };
typedef struct gd_class_weights {
  int32_t count;
  float value[GD_MAX_CLASS_WEIGHTS];
} gd_class_weights;

typedef struct gd_finetune_spec {
  gd_finetune_task task;
  gd_patterns train; /* patterns, "head", "top:K" (shard/trained.h); none: all; values are 0 */
  bool pack;         /* rows hold several examples of a task, not one */
  gd_label_loss loss;
  gd_class_weights class_weights;
} gd_finetune_spec;

typedef enum gd_sample_order { GD_ORDER_SHUFFLED, GD_ORDER_SEQUENTIAL, GD_ORDER_RANDOM_OFFSET } gd_sample_order;

/* GD_PASSES_ALL_FORWARD: all micro-batches forward before the first goes backward. No run file asks for it, for one stage gains
 * nothing by it; tests hold several micro-batches alive with it. */
typedef enum gd_pass_order { GD_PASSES_ONE_BY_ONE, GD_PASSES_ALL_FORWARD } gd_pass_order;

typedef struct gd_parallel_spec {
  int32_t tensor, pipeline, context;
  int32_t zero;   /* ZeRO stage 0 to 3 (Rajbhandari et al. 2020); 2 and 3 are refused until built */
  int32_t blocks; /* R; 0 in the file: invariant: largest of 4, 2, 1 that divides; fast: = tensor */
  /* K, time blocks of a sequence. 0 in the file: invariant: the largest of 8, 4, 2, 1 such that K R divides T and a block has
   * at least 256 tokens, else 1; fast: 1 */
  int32_t time_blocks;
  gd_pass_order passes;
} gd_parallel_spec;

typedef struct gd_batch_spec {
  int32_t global;   /* sequences an optimizer step, over all ranks */
  int32_t micro;    /* sequences a forward pass, on one data rank; 0 in the file: all of its share */
  int32_t sequence; /* T; 0 in the file: model.context */
  gd_sample_order order;
} gd_batch_spec;

typedef enum gd_optimizer_kind { GD_OPTIMIZER_ADAMW, GD_OPTIMIZER_SGD } gd_optimizer_kind;

typedef struct gd_optimizer_spec {
  gd_optimizer_kind kind;
  float lr, min_lr;
  float beta1, beta2, epsilon; /* AdamW: Loshchilov and Hutter 2019, algorithm 2 */
  float momentum;              /* SGD */
  bool nesterov;               /* SGD: Sutskever et al. 2013 */
  float weight_decay;          /* decoupled, on matrices only */
  float clip;                  /* global gradient norm; 0 = off */
  float label_smoothing;       /* share of a target that goes to all outputs alike, in training */
  gd_patterns lr_scale;        /* factors of the learning rate; of those that match a tensor the last counts, none: 1 */
} gd_optimizer_spec;

typedef enum gd_schedule_kind {
  GD_SCHEDULE_COSINE,
  GD_SCHEDULE_LINEAR,
  GD_SCHEDULE_CONSTANT,
  GD_SCHEDULE_WSD,
  GD_SCHEDULE_PLATEAU
} gd_schedule_kind;

typedef struct gd_schedule_spec {
  gd_schedule_kind kind;
  int64_t warmup_steps;
  int64_t decay_steps; /* length of the decay; 0 in the file: all steps after warm-up (wsd: a fifth of the run) */
  float factor;        /* plateau: what the learning rate is multiplied by */
  int32_t patience;    /* plateau: after so many validations in a row without a gain */
} gd_schedule_spec;

typedef struct gd_precision_spec {
  gd_dtype dtype; /* GD_FLOAT32 or GD_BFLOAT16: parameters and activations (docs/rounding.md) */
} gd_precision_spec;

typedef enum gd_numerics { GD_NUMERICS_FAST, GD_NUMERICS_INVARIANT } gd_numerics;

typedef struct gd_recompute_spec {
  bool activation; /* recompute the mlp activation output in backward in place of keeping it */
} gd_recompute_spec;

typedef struct gd_checkpoint_spec {
  int64_t interval_steps; /* 0 = only at the end and on a signal */
  int32_t keep;           /* newest K, besides the best and the last */
  bool background;        /* write on a thread after the snapshot */
  bool at_start;          /* the weights before the first step too, which are kept */
  bool at_end;            /* when all steps are done; what stops a run before that is saved in any case */
} gd_checkpoint_spec;

/* What a validation measures: io/data/metric.h has names and directions. */
typedef enum gd_metric {
  GD_METRIC_LOSS,
  GD_METRIC_ACCURACY,
  GD_METRIC_MACRO_F1,
  GD_METRIC_WEIGHTED_F1,
  GD_METRIC_MICRO_F1,
  GD_METRICS
} gd_metric;

typedef struct gd_validation_spec {
  int64_t interval_steps; /* 0 = never */
  float interval_epochs;  /* in place of interval_steps, which is made of it and the data; then 0 */
  int64_t batches;        /* global batches a validation; 0 = the whole split */
  gd_metric metric;       /* which one says what is best */
  int32_t patience;       /* the run ends after so many validations in a row without a gain; 0 = never */
  float min_gain;         /* what counts as one */
} gd_validation_spec;

typedef struct gd_guard_spec {
  int32_t max_bad_steps;           /* consecutive skipped (non-finite) steps before leaving with 77 */
  int64_t replicas_interval_steps; /* compare the ranks' copies of weights, then and before a save; 0 = never */
} gd_guard_spec;

typedef struct gd_log_spec {
  int64_t interval_steps;
  bool tensorboard;
  bool profile;     /* rank 0 times its kernels */
  int32_t timeline; /* steps that each rank draws; 0 = none */
} gd_log_spec;

typedef struct gd_spec {
  gd_run_spec run;
  gd_model_spec model;
  gd_data_spec data;
  gd_finetune_spec finetune;
  gd_parallel_spec parallel;
  gd_batch_spec batch;
  gd_optimizer_spec optimizer;
  gd_schedule_spec schedule;
  gd_precision_spec precision;
  gd_numerics numerics;
  gd_recompute_spec recompute;
  gd_checkpoint_spec checkpoint;
  gd_validation_spec validation;
  gd_guard_spec guard;
  gd_log_spec log;
} gd_spec;

/* Replaces the zeros that mean "derive it" (kv_heads, head_size, ffn, blocks, time_blocks, micro, sequence, decay_steps) for a
 * job of `ranks` ranks and checks what no single key can show: divisibility, contradictions, what is not built.
 * model.vocabulary must be known by then. Local. GD_USAGE with a text naming the keys, what was found and what would fit. */
GD_CHECKED gd_status gd_spec_resolve(gd_spec *spec, int32_t ranks);

/* GD_USAGE where a key goes by validations and there are none, with the reason. Local. */
GD_CHECKED gd_status gd_spec_check_validated(const gd_spec *spec, bool validated, const char *why);

/* The model's part alone (generation and evaluation have no batch or optimizer): derives kv_heads, head_size, ffn,
 * and one block a tensor rank and a sequence where none are set. */
GD_CHECKED gd_status gd_spec_resolve_model(gd_spec *spec);

/* Vocabulary rows kept in memory: V padded to a multiple of 16 R on every layout. */
int64_t gd_spec_padded_vocabulary(const gd_spec *spec);

/* True (not padded) number of elements; a tied head counts once. */
int64_t gd_spec_parameters(const gd_spec *spec);

#endif
