/* keys.c - the one key table: run file, --set, aliases, --help-config, suggestions and the resolved file all read it. */
#include <string.h>
#include <strings.h>

#include "io/config/config.h"

static const gd_key_choice norms[] = {{"layernorm", GD_NORM_LAYERNORM}, {"rmsnorm", GD_NORM_RMSNORM}, {0, 0}};
static const gd_key_choice activations[] = {
    {"gelu_tanh", GD_ACTIVATION_GELU_TANH}, {"gelu", GD_ACTIVATION_GELU}, {"swiglu", GD_ACTIVATION_SWIGLU}, {0, 0}};
static const gd_key_choice positions[] = {{"learned", GD_POSITION_LEARNED}, {"rotary", GD_POSITION_ROTARY}, {0, 0}};
static const gd_key_choice biases[] = {{"true", GD_BIAS_ALL}, {"false", GD_BIAS_NONE},
                                       {"qkv", GD_BIAS_QKV},  {"attention", GD_BIAS_QKV | GD_BIAS_PROJECTION},
                                       {"mlp", GD_BIAS_MLP},  {0, 0}};
static const gd_key_choice rope_kinds[] = {
    {"plain", GD_ROPE_PLAIN}, {"linear", GD_ROPE_LINEAR}, {"llama3", GD_ROPE_LLAMA3}, {0, 0}};
static const gd_key_choice devices[] = {{"auto", GD_DEVICE_AUTO}, {"cpu", GD_DEVICE_CPU},     {"cuda", GD_DEVICE_CUDA},
                                        {"lazy", GD_DEVICE_LAZY}, {"eager", GD_DEVICE_EAGER}, {0, 0}};
static const gd_key_choice tasks[] = {{"auto", GD_FINETUNE_AUTO},
                                      {"lm", GD_FINETUNE_LM},
                                      {"classification", GD_FINETUNE_CLASSIFICATION},
                                      {"sft", GD_FINETUNE_SFT},
                                      {0, 0}};
static const gd_key_choice label_losses[] = {
    {"auto", GD_LABEL_LOSS_AUTO}, {"softmax", GD_LABEL_LOSS_SOFTMAX}, {"sigmoid", GD_LABEL_LOSS_SIGMOID}, {0, 0}};
static const gd_key_choice orders[] = {
    {"shuffled", GD_ORDER_SHUFFLED}, {"sequential", GD_ORDER_SEQUENTIAL}, {"random_offset", GD_ORDER_RANDOM_OFFSET}, {0, 0}};
static const gd_key_choice optimizers[] = {{"adamw", GD_OPTIMIZER_ADAMW}, {"sgd", GD_OPTIMIZER_SGD}, {0, 0}};
static const gd_key_choice schedules[] = {{"cosine", GD_SCHEDULE_COSINE},     {"linear", GD_SCHEDULE_LINEAR},
                                          {"constant", GD_SCHEDULE_CONSTANT}, {"wsd", GD_SCHEDULE_WSD},
                                          {"plateau", GD_SCHEDULE_PLATEAU},   {0, 0}};
static const gd_key_choice dtypes[] = {
    {"fp32", GD_FLOAT32}, {"bf16", GD_BFLOAT16}, {"float32", GD_FLOAT32}, {"bfloat16", GD_BFLOAT16}, {0, 0}};
static const gd_key_choice metrics[] = {{"loss", GD_METRIC_LOSS},         {"accuracy", GD_METRIC_ACCURACY},
                                        {"macro_f1", GD_METRIC_MACRO_F1}, {"weighted_f1", GD_METRIC_WEIGHTED_F1},
                                        {"micro_f1", GD_METRIC_MICRO_F1}, {0, 0}};
static const gd_key_choice numerics[] = {{"fast", GD_NUMERICS_FAST}, {"invariant", GD_NUMERICS_INVARIANT}, {0, 0}};

#define STEPS_MAX 4294967295.0 /* a step is 32 bits of a random number's counter */
#define COUNT_MAX 2147483647.0

#define AT(section, member) offsetof(gd_spec, section.member)
#define NUMBER(change, kind, section, member, preset, low, high, unit, help)                                                \
  {                                                                                                                         \
#section "." #member, GD_KEY_##kind, GD_CHANGE_##change, AT(section, member), preset, low, high, false, false, unit, 0, \
        help                                                                                                                \
  }
/* low <= value < high */
#define BELOW(change, section, member, preset, low, high, help) \
  { #section "." #member, GD_KEY_FLOAT, GD_CHANGE_##change, AT(section, member), preset, low, high, false, true, "", 0, help }
/* low < value <= high */
#define ABOVE(change, section, member, preset, low, high, help) \
  { #section "." #member, GD_KEY_FLOAT, GD_CHANGE_##change, AT(section, member), preset, low, high, true, false, "", 0, help }
/* low < value < high */
#define INSIDE(change, section, member, preset, low, high, help) \
  { #section "." #member, GD_KEY_FLOAT, GD_CHANGE_##change, AT(section, member), preset, low, high, true, true, "", 0, help }
#define CHOICE(change, section, member, preset, choices, help)                                                             \
  {                                                                                                                        \
#section "." #member, GD_KEY_CHOICE, GD_CHANGE_##change, AT(section, member), preset, 0, 0, false, false, "", choices, \
        help                                                                                                               \
  }
#define BOOL(change, section, member, preset, help) \
  { #section "." #member, GD_KEY_BOOL, GD_CHANGE_##change, AT(section, member), preset, 0, 0, false, false, "", 0, help }
#define STRING(change, section, member, preset, help) \
  { #section "." #member, GD_KEY_STRING, GD_CHANGE_##change, AT(section, member), preset, 0, 0, false, false, "", 0, help }

static const gd_config_key keys[] = {
    STRING(FREE, run, directory, "runs/default",
           "folder of this run: metrics, checkpoints, logs; the same line again resumes it"),
    NUMBER(ASKED, UINT64, run, seed, "1", 0, 18446744073709551615.0, "", "of weights, dropout, data order and sampling"),
    NUMBER(TOLD, INT64, run, steps, "1000", 1, STEPS_MAX, "steps", "optimizer steps of the whole run"),
    NUMBER(TOLD, FLOAT, run, epochs, "0", 0, 1e6, "epochs", "in place of run.steps: passes over the data; 0 = by run.steps"),
    CHOICE(FREE, run, device, "auto", devices, "auto takes a GPU where there is one; lazy and eager are for tests"),
    NUMBER(FREE, INT32, run, threads, "0", 0, 4096, "threads", "OpenMP threads a rank; 0 = cores of the node / ranks on it"),
    NUMBER(FREE, INT64, run, max_time_s, "0", 0, 315360000, "s", "stop, save and leave with 75 after this long; 0 = never"),
    NUMBER(FREE, INT32, run, watchdog_s, "-1", -1, 604800, "s",
           "no progress for this long (ten times that at start, load, save): name the rank, leave with 76; -1 = max(30 s, 5 "
           "median steps), 0 = off"),

    NUMBER(NEVER, INT32, model, layers, "12", 1, 65535, "", "transformer blocks"),
    NUMBER(NEVER, INT32, model, heads, "12", 1, 65536, "", "query heads"),
    NUMBER(NEVER, INT32, model, kv_heads, "0", 0, 65536, "", "key/value heads; 0 = heads"),
    NUMBER(NEVER, INT32, model, width, "768", 1, 1048576, "", "width of the residual stream"),
    NUMBER(NEVER, INT32, model, head_size, "0", 0, 65536, "", "width of one head; 0 = width / heads"),
    NUMBER(NEVER, INT32, model, ffn, "0", 0, 16777216, "", "inner width of the mlp; 0 = 4 * width"),
    NUMBER(NEVER, INT32, model, vocabulary, "0", 0, 16777216, "tokens", "true size, not padded; 0 = the tokenizer's"),
    NUMBER(NEVER, INT32, model, context, "1024", 1, 16777216, "tokens", "longest sequence"),
    NUMBER(NEVER, INT32, model, classes, "0", 0, 65536, "", "outputs of a classifier in the head's place; taken from the data"),
    CHOICE(NEVER, model, norm, "layernorm", norms, "normalisation"),
    CHOICE(NEVER, model, activation, "gelu_tanh", activations, "of the mlp; gelu_tanh is GPT-2's"),
    CHOICE(NEVER, model, position, "learned", positions, "how a token knows its place"),
    CHOICE(NEVER, model, bias, "true", biases, "on linear layers: all, none, query, key and value, those and projection, mlp"),
    BOOL(NEVER, model, tied_head, "true", "the head is the token embedding"),
    ABOVE(NEVER, model, norm_epsilon, "1e-5", 0, 1, "added to the variance"),
    ABOVE(NEVER, model, rope_theta, "10000", 0, 1e12, "base of the rotary angles"),
    {"model.rope_kind", GD_KEY_CHOICE, GD_CHANGE_NEVER, AT(model, rope.kind), "plain", 0, 0, false, false, "", rope_kinds,
     "how rotary frequencies are stretched for a longer context"},
    {"model.rope_factor", GD_KEY_FLOAT, GD_CHANGE_NEVER, AT(model, rope.factor), "1", 1, 1e6, false, false, "", 0,
     "linear, llama3: slow frequencies are divided by it (linear: all)"},
    {"model.rope_low", GD_KEY_FLOAT, GD_CHANGE_NEVER, AT(model, rope.low), "1", 0, 1e6, false, false, "turns", 0,
     "llama3: frequencies that turn as often in rope_original, or less, are slow"},
    {"model.rope_high", GD_KEY_FLOAT, GD_CHANGE_NEVER, AT(model, rope.high), "4", 0, 1e6, true, false, "turns", 0,
     "llama3: those that turn as often, or more, stay as they are; between the two, a mixture"},
    {"model.rope_original", GD_KEY_INT32, GD_CHANGE_NEVER, AT(model, rope.original), "8192", 1, 16777216, false, false,
     "tokens", 0, "llama3: the context before it was stretched"},
    BELOW(TOLD, model, dropout, "0", 0, 1, "on embedding, attention weights and both residual branches"),
    NUMBER(FREE, FLOAT, model, init_std, "0.02", 0, 100, "", "initial weights: normal(0, init_std)"),
    STRING(TOLD, model, init_from, "", "weights only, from a checkpoint or a Hugging Face folder; empty = random"),

    {"data.path", GD_KEY_SOURCES, GD_CHANGE_TOLD, offsetof(gd_spec, data), "", 0, 0, false, false, "", 0,
     "folder(s) of gptdist-data prepare: one, or a list of {path, weight}"},
    STRING(TOLD, data, validation, "", "validation shards; empty = PATH/validation of the first source where it exists"),
    BOOL(ASKED, data, mask_documents, "false", "attention does not look across documents; of a task's data: always true"),
    BOOL(ASKED, data, reset_positions, "false",
         "with mask_documents: positions begin anew in each document; of a task's data: always true"),
    NUMBER(FREE, INT32, data, prefetch, "2", 1, 64, "batches", "read ahead"),

    CHOICE(FREE, finetune, task, "auto", tasks, "what the data must be for; auto takes any"),
    {"finetune.train", GD_KEY_PATTERNS, GD_CHANGE_TENSORS, AT(finetune, train), "all", 0, 0, false, false, "", 0,
     "what learns: all, head, top:K (the last K layers and the head), or a list of these and of tensor names with *"},
    BOOL(ASKED, finetune, pack, "true", "of a task's data: a sequence holds several examples, not one"),
    CHOICE(
        NEVER, finetune, loss, "auto", label_losses,
        "of a classifier; auto: sigmoid where a text may have several labels, else softmax; sigmoid takes two labels as one"),
    {"finetune.class_weights", GD_KEY_WEIGHTS, GD_CHANGE_TOLD, AT(finetune, class_weights), "none", 0, 1e6, false, false, "", 0,
     "of a class's texts in the loss: none, balanced (texts / (classes x its texts)), or a list in the order of the labels"},

    NUMBER(FREE, INT32, parallel, tensor, "1", 1, 65536, "ranks", "ranks that share one layer"),
    NUMBER(FREE, INT32, parallel, pipeline, "1", 1, 65536, "ranks", "stages of layers"),
    NUMBER(FREE, INT32, parallel, context, "1", 1, 65536, "ranks", "ranks that share one sequence"),
    NUMBER(FREE, INT32, parallel, zero, "1", 0, 3, "", "ZeRO stage: 1 cuts the optimizer state over the data ranks"),
    NUMBER(BLOCKS, INT32, parallel, blocks, "0", 0, 65536, "", "canonical blocks along the tensor axis; 0 = chosen"),
    NUMBER(BLOCKS, INT32, parallel, time_blocks, "0", 0, 1024, "", "canonical blocks of a sequence in time; 0 = chosen"),

    NUMBER(TOLD, INT32, batch, global, "8", 1, 1048576, "sequences", "an optimizer step, over all ranks"),
    NUMBER(FREE, INT32, batch, micro, "0", 0, 1048576, "sequences", "a forward pass on one data rank; 0 = all of its share"),
    NUMBER(ASKED, INT32, batch, sequence, "0", 0, 16777216, "tokens", "length; 0 = model.context"),
    CHOICE(ASKED, batch, order, "shuffled", orders, "random_offset: independent positions, as character-level examples use"),

    CHOICE(NEVER, optimizer, kind, "adamw", optimizers, ""),
    NUMBER(TOLD, FLOAT, optimizer, lr, "6e-4", 0, 1000, "", "highest learning rate"),
    NUMBER(TOLD, FLOAT, optimizer, min_lr, "6e-5", 0, 1000, "", "learning rate at the end of the decay"),
    BELOW(TOLD, optimizer, beta1, "0.9", 0, 1, "AdamW"),
    BELOW(TOLD, optimizer, beta2, "0.95", 0, 1, "AdamW"),
    ABOVE(TOLD, optimizer, epsilon, "1e-8", 0, 1, "AdamW"),
    BELOW(TOLD, optimizer, momentum, "0.9", 0, 1, "SGD"),
    BOOL(TOLD, optimizer, nesterov, "false", "SGD: the step looks ahead along its momentum"),
    NUMBER(TOLD, FLOAT, optimizer, weight_decay, "0.1", 0, 100, "", "decoupled, on matrices only"),
    NUMBER(TOLD, FLOAT, optimizer, clip, "1", 0, 1e9, "", "highest global gradient norm; 0 = off"),
    BELOW(TOLD, optimizer, label_smoothing, "0", 0, 1, "share of a target that goes to all outputs alike, in training"),
    {"optimizer.lr_scale", GD_KEY_FACTORS, GD_CHANGE_TOLD, AT(optimizer, lr_scale), "{}", 0, 1e6, false, false, "", 0,
     "factors of lr by tensor name (no head, top:K, all): {\"final_norm.*\": 5, \"layers.0.*\": 0.1}; the last that matches "
     "counts"},

    CHOICE(TOLD, schedule, kind, "cosine", schedules, "after the warm-up; wsd: constant, then a decay; plateau: by validation"),
    NUMBER(TOLD, INT64, schedule, warmup_steps, "0", 0, STEPS_MAX, "steps", "linear rise from 0"),
    NUMBER(TOLD, INT64, schedule, decay_steps, "0", 0, STEPS_MAX, "steps",
           "0 = all after the warm-up; wsd: a fifth of the run"),
    INSIDE(TOLD, schedule, factor, "0.5", 0, 1, "plateau: of the learning rate, down to optimizer.min_lr"),
    NUMBER(TOLD, INT32, schedule, patience, "2", 1, COUNT_MAX, "validations",
           "plateau: in a row without a gain (validation.min_gain) before the learning rate is cut"),

    CHOICE(ASKED, precision, dtype, "fp32", dtypes, "of parameters and activations; sums and optimizer state are fp32"),

    {"numerics", GD_KEY_CHOICE, GD_CHANGE_ASKED, offsetof(gd_spec, numerics), "fast", 0, 0, false, false, "", numerics,
     "invariant: the same bits on every layout of ranks"},

    BOOL(FREE, recompute, activation, "false", "recompute the mlp activation in backward in place of keeping it"),

    NUMBER(FREE, INT64, checkpoint, interval_steps, "500", 0, STEPS_MAX, "steps", "0 = only at the end and on a signal"),
    NUMBER(FREE, INT32, checkpoint, keep, "3", 1, 1000000, "", "newest ones kept, besides the best and the last"),
    BOOL(FREE, checkpoint, background, "true", "write on a thread after the snapshot"),
    BOOL(FREE, checkpoint, at_start, "false", "save the weights before the first step too (RUN@0), and keep them"),
    BOOL(FREE, checkpoint, at_end, "true", "save when all steps are done; false: a run that only measures"),

    NUMBER(FREE, INT64, validation, interval_steps, "100", 0, STEPS_MAX, "steps", "0 = never"),
    NUMBER(FREE, FLOAT, validation, interval_epochs, "0", 0, 1e6, "epochs",
           "in place of interval_steps, rounded to whole steps; 0 = by interval_steps"),
    NUMBER(TOLD, INT64, validation, batches, "16", 0, COUNT_MAX, "batches", "global batches a validation; 0 = the whole split"),
    CHOICE(TOLD, validation, metric, "loss", metrics, "which measure says what is best; all but loss are of classification"),
    NUMBER(TOLD, INT32, validation, patience, "0", 0, COUNT_MAX, "validations",
           "in a row without a gain before the run stops early; 0 = never"),
    NUMBER(TOLD, FLOAT, validation, min_gain, "0", 0, 1e9, "",
           "by how much the best so far must be surpassed to count as a gain"),

    NUMBER(TOLD, INT32, guard, max_bad_steps, "10", 1, 1000000, "steps", "skipped in a row before leaving with 77"),
    NUMBER(FREE, INT64, guard, replicas_interval_steps, "0", 0, STEPS_MAX, "steps",
           "compare the ranks' copies of weights, then and before a save: where they differ leave with 76; 0 = never"),

    NUMBER(FREE, INT64, log, interval_steps, "1", 1, STEPS_MAX, "steps", "between two lines of metrics"),
    BOOL(FREE, log, tensorboard, "true", "write event files too"),
    BOOL(FREE, log, profile, "false", "time each kernel of rank 0 and print a table at the end; on a GPU one by one"),
    NUMBER(FREE, INT32, log, timeline, "0", 0, 100, "steps",
           "when each row and exchange of the first ones ran: RUN/timeline/rank-*.json, for ui.perfetto.dev; 0 = none"),
};

enum { KEYS = sizeof keys / sizeof keys[0] };
_Static_assert((int)KEYS <= (int)GD_CONFIG_MAX_KEYS, "gd_config_origins is too small");

static const gd_config_alias aliases[] = {
    {"--run-directory", "run.directory", 0},
    {"--seed", "run.seed", 0},
    {"--train-iters", "run.steps", 0},
    {"--steps", "run.steps", 0},
    {"--device", "run.device", 0},
    {"--threads", "run.threads", 0},
    {"--max-time", "run.max_time_s", 0},
    {"--watchdog", "run.watchdog_s", 0},
    {"--num-layers", "model.layers", 0},
    {"--num-attention-heads", "model.heads", 0},
    {"--num-query-groups", "model.kv_heads", 0},
    {"--hidden-size", "model.width", 0},
    {"--kv-channels", "model.head_size", 0},
    {"--ffn-hidden-size", "model.ffn", 0},
    {"--vocab-size", "model.vocabulary", 0},
    {"--max-position-embeddings", "model.context", 0},
    {"--normalization", "model.norm", 0},
    {"--swiglu", "model.activation", "swiglu"},
    {"--position-embedding-type", "model.position", 0},
    {"--disable-bias-linear", "model.bias", "false"},
    {"--untie-embeddings-and-output-weights", "model.tied_head", "false"},
    {"--norm-epsilon", "model.norm_epsilon", 0},
    {"--rotary-base", "model.rope_theta", 0},
    {"--dropout", "model.dropout", 0},
    {"--init-method-std", "model.init_std", 0},
    {"--init-from", "model.init_from", 0},
    {"--data-path", "data.path", 0},
    {"--reset-attention-mask", "data.mask_documents", "true"},
    {"--reset-position-ids", "data.reset_positions", "true"},
    {"--tensor-model-parallel-size", "parallel.tensor", 0},
    {"--pipeline-model-parallel-size", "parallel.pipeline", 0},
    {"--context-parallel-size", "parallel.context", 0},
    {"--zero-stage", "parallel.zero", 0},
    {"--global-batch-size", "batch.global", 0},
    {"--micro-batch-size", "batch.micro", 0},
    {"--seq-length", "batch.sequence", 0},
    {"--optimizer", "optimizer.kind", 0},
    {"--lr", "optimizer.lr", 0},
    {"--learning-rate", "optimizer.lr", 0},
    {"--min-lr", "optimizer.min_lr", 0},
    {"--adam-beta1", "optimizer.beta1", 0},
    {"--adam-beta2", "optimizer.beta2", 0},
    {"--adam-eps", "optimizer.epsilon", 0},
    {"--sgd-momentum", "optimizer.momentum", 0},
    {"--weight-decay", "optimizer.weight_decay", 0},
    {"--clip-grad", "optimizer.clip", 0},
    {"--lr-decay-style", "schedule.kind", 0},
    {"--lr-warmup-iters", "schedule.warmup_steps", 0},
    {"--lr-decay-iters", "schedule.decay_steps", 0},
    {"--bf16", "precision.dtype", "bf16"},
    {"--fp32", "precision.dtype", "fp32"},
    {"--numerics", "numerics", 0},
    {"--save-interval", "checkpoint.interval_steps", 0},
    {"--eval-interval", "validation.interval_steps", 0},
    {"--eval-iters", "validation.batches", 0},
    {"--log-interval", "log.interval_steps", 0},
};

int gd_config_keys(const gd_config_key **out) {
  *out = keys;
  return KEYS;
}

const gd_config_key *gd_config_find(const char *name) {
  for (int i = 0; i < KEYS; i++) {
    if (strcmp(keys[i].name, name) == 0) return &keys[i];
  }
  return 0;
}

int gd_config_aliases(const gd_config_alias **out) {
  *out = aliases;
  return sizeof aliases / sizeof aliases[0];
}

const gd_config_alias *gd_config_find_alias(const char *option) {
  for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
    if (strcmp(aliases[i].option, option) == 0) return &aliases[i];
  }
  return 0;
}
