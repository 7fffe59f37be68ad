/* gptdist_eval.c - gptdist-eval: scores a model: `gptdist-eval --checkpoint DIR --task perplexity --data DATASET`. Under
 * mpirun --tensor N ranks share the model and the items are dealt to the others. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/base/json.h"
#include "launch/console.h"
#include "launch/eval_generation.h"
#include "launch/eval_classes.h"
#include "launch/eval_labels.h"
#include "launch/eval_texts.h"
#include "launch/inference.h"
#include "launch/options.h"
#include "launch/signals.h"
#include "trainer/evaluate.h"

typedef enum task_kind {
  TASK_PERPLEXITY,
  TASK_LOGITS,
  TASK_LAMBADA,
  TASK_PIQA,
  TASK_HELLASWAG,
  TASK_CLASSIFICATION,
  TASK_GENERATION,
  TASKS
} task_kind;
static const char *const task_names[TASKS] = {"perplexity", "logits",         "lambada",   "piqa",
                                              "hellaswag",  "classification", "generation"};
#define TASK_LIST "perplexity, logits, lambada, piqa, hellaswag, classification, generation, bleu, rouge or exact"

typedef struct eval {
  gd_inference_options options;
  gd_command_line line;
  gd_eval_texts_options texts;
  gd_generate generate; /* of --task generation, in place of model and evaluator */
  const char *task, *data, *token_ids, *prompt, *compare, *predictions;
  int64_t limit, length;
  task_kind kind;
  bool first; /* rank 0 */
  bool cut;   /* a signal ended it before its last item */
  gd_inference model;
  gd_evaluator evaluator;
} eval;

/* What JSON has no number for is null. */
static void print_number(const char *before, double value) {
  if (isfinite(value))
    printf("%s%.9g", before, value);
  else
    printf("%snull", before);
}

static bool stop_asked(void *context) {
  (void)context;
  return gd_signals_pending() != 0;
}

static void note_cut(eval *e, int64_t done, int64_t items, const char *what) {
  e->cut = done < items;
  if (e->cut)
    gd_log(GD_LOG_WARNING, "stopped by a signal: the score is that of the first %lld of %lld %s", (long long)done,
           (long long)items, what);
}

static gd_status check_options(eval *e) {
  if (!e->task) return gd_fail_user(GD_USAGE, "--task: not given, expected " TASK_LIST);
  for (e->kind = 0; e->kind < TASKS && strcmp(e->task, task_names[e->kind]) != 0;) e->kind++;
  if (e->kind == TASKS) return gd_fail_user(GD_USAGE, "--task: found \"%s\", expected " TASK_LIST, e->task);
  if (e->kind != TASK_LOGITS && !e->data) return gd_fail_user(GD_USAGE, "--data: not given; --task %s reads it", e->task);
  if (e->kind == TASK_LOGITS && (e->token_ids != 0) + (e->prompt != 0) != 1)
    return gd_fail_user(GD_USAGE, "--task logits: give --token-ids or --prompt");
  return GD_OK;
}

static gd_status need_tokenizer(const eval *e) {
  if (e->model.tokenizer) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s brings no tokenizer; name one with --tokenizer", e->options.checkpoint);
}

/* ---- perplexity ---- */

/* DIR/validation, else DIR itself; a file is text. */
static gd_status open_windows(const eval *e, gd_window_source *source, gd_ids *ids, size_t *bytes) {
  char path[GD_PATH_BYTES];
  gd_bytes text = {0};
  source->length = e->model.model.cache.capacity;
  *bytes = 0;
  GD_TRY(gd_path_named(e->data, GD_PATH_ANY, "a dataset or a text file"));
  if (gd_folder_exists(e->data)) {
    GD_TRY(gd_path_join(path, sizeof path, e->data, "index.json"));
    bool split = gd_file_exists(path);
    GD_TRY(gd_path_join(path, sizeof path, e->data, "validation"));
    if (!split && !gd_folder_exists(path))
      return gd_fail_user(GD_BAD_DATA,
                          "%s: found neither index.json nor validation/, expected a split or a dataset with a "
                          "validation split (--validation-fraction of gptdist-data prepare)",
                          e->data);
    GD_TRY(gd_dataset_open_split(split ? e->data : path, source->length, false, false, &source->dataset));
    if (gd_dataset_task(source->dataset)->kind == GD_TASK_CLASSIFICATION)
      return gd_fail_user(GD_USAGE,
                          "%s: holds examples for classification, which have no next tokens to score; expected text or "
                          "examples for sft",
                          e->data);
    if (gd_dataset_vocabulary(source->dataset) > e->model.spec.model.vocabulary)
      return gd_fail_user(GD_USAGE, "%s has %d token ids, but the model only %d", e->data,
                          gd_dataset_vocabulary(source->dataset), e->model.spec.model.vocabulary);
    return gd_batch_open(1, source->length, &source->batch);
  }
  GD_TRY(need_tokenizer(e));
  GD_TRY(gd_file_read(e->data, (size_t)1 << 32, &text));
  int32_t start =
      gd_tokenizer_bos(e->model.tokenizer) >= 0 ? gd_tokenizer_bos(e->model.tokenizer) : gd_tokenizer_eot(e->model.tokenizer);
  gd_status status = start >= 0 ? gd_ids_append(ids, &start, 1) : GD_OK;
  if (status == GD_OK) status = gd_tokenizer_encode(e->model.tokenizer, text.bytes, text.count, false, ids);
  *bytes = text.count;
  gd_bytes_free(&text);
  source->ids = ids->ids;
  source->count = (int64_t)ids->count;
  return status;
}

static void print_perplexity(const eval *e, const double totals[GD_SCORE_SUMS], int64_t windows, size_t bytes, double seconds) {
  double loss = totals[1] > 0 ? totals[0] / totals[1] : NAN;
  if (e->line.json) {
    print_number("{\"task\":\"perplexity\",\"loss\":", loss);
    print_number(",\"perplexity\":", exp(loss));
    printf(",\"tokens\":%.0f,\"windows\":%lld", totals[1], (long long)windows);
    if (bytes) print_number(",\"bits_per_byte\":", totals[0] / log(2.0) / (double)bytes);
    printf(",\"tokens_per_s\":%.1f}\n", totals[1] / seconds);
    return;
  }
  printf("loss %.6f  perplexity %.4f  over %.0f tokens in %lld windows of %d", loss, exp(loss), totals[1], (long long)windows,
         e->model.model.cache.capacity);
  if (bytes) printf("  %.4f bits per byte", totals[0] / log(2.0) / (double)bytes);
  printf("  (%.1f tokens/s)\n", totals[1] / seconds);
}

static gd_status perplexity(eval *e) {
  gd_window_source source = {0};
  gd_ids ids = {0};
  size_t bytes = 0;
  double totals[GD_SCORE_SUMS], start = gd_machine_seconds();
  int64_t done = 0;
  gd_status status = gd_session_agree(e->model.session, open_windows(e, &source, &ids, &bytes));
  if (status == GD_OK) status = gd_dataset_check(e->model.session, &source.dataset, 1, GD_DATASET_CHECK_SECONDS);
  int64_t items = status == GD_OK ? gd_window_count(&source) : 0;
  if (status == GD_OK && items == 0) status = gd_fail_user(GD_BAD_DATA, "%s: found fewer than two tokens", e->data);
  if (e->limit > 0 && e->limit < items) {
    items = e->limit;
    bytes = 0; /* of a part of the text are not known */
  }
  if (status == GD_OK) status = gd_score_all(&e->evaluator, items, gd_score_window, stop_asked, &source, totals, &done);
  if (status == GD_OK) note_cut(e, done, items, "windows");
  if (status == GD_OK && e->first) print_perplexity(e, totals, done, done == items ? bytes : 0, gd_machine_seconds() - start);
  if (source.dataset) gd_dataset_close(source.dataset);
  gd_batch_close(&source.batch);
  gd_ids_free(&ids);
  return status;
}

/* ---- lambada, piqa, hellaswag ---- */

static void print_task(const eval *e, const double totals[GD_SCORE_SUMS], int64_t items) {
  double n = items > 0 ? (double)items : 1, accuracy = totals[0] / n;
  double spread = items > 1 ? sqrt(accuracy * (1 - accuracy) / (n - 1)) : 0;
  bool lambada = e->kind == TASK_LAMBADA;
  const char *second = lambada ? "perplexity" : "accuracy_by_byte";
  double value = lambada ? exp(totals[1] / n) : totals[3] / n;
  if (e->line.json) {
    printf("{\"task\":\"%s\",\"accuracy\":%.9g,\"standard_error\":%.9g,\"%s\"", e->task, accuracy, spread, second);
    print_number(":", value);
    printf(",\"items\":%lld}\n", (long long)items);
  } else
    printf("%s accuracy %.4f (standard error %.4f)  %s %.4f  over %lld items\n", e->task, accuracy, spread, second, value,
           (long long)items);
}

static gd_status run_task(eval *e) {
  static const gd_task_kind kinds[TASKS] = {[TASK_PIQA] = GD_TASK_PIQA, [TASK_HELLASWAG] = GD_TASK_HELLASWAG};
  gd_task *task = 0;
  double totals[GD_SCORE_SUMS];
  int64_t done = 0;
  gd_status status = need_tokenizer(e);
  if (status == GD_OK) status = gd_path_named(e->data, GD_PATH_FILE, "the task's items, a JSON Lines file");
  if (status == GD_OK) status = gd_task_open(kinds[e->kind], e->data, e->model.tokenizer, &task);
  status = gd_session_agree(e->model.session, status);
  if (status == GD_OK) {
    int64_t items = gd_task_items(task);
    if (e->limit > 0 && e->limit < items) items = e->limit;
    status = gd_score_all(&e->evaluator, items, gd_task_score, stop_asked, &task, totals, &done);
    if (status == GD_OK) note_cut(e, done, items, "items");
  }
  if (status == GD_OK && e->first) print_task(e, totals, done);
  if (task) gd_task_close(task);
  return status;
}

/* ---- logits ---- */

typedef struct logits_printer {
  const eval *e;
  const gd_ids *ids;
} logits_printer;

/* --json: the whole row with 9 significant digits; plain: the five largest. */
static gd_status print_logits(void *context, int64_t position, const float *logits) {
  const logits_printer *p = context;
  int32_t outputs = gd_model_outputs(&p->e->model.model), top[5];
  if (!p->e->first) return GD_OK;
  if (p->e->line.json) {
    printf("{\"position\":%lld,\"token\":%d,\"logits\":[", (long long)position, p->ids->ids[position]);
    for (int32_t i = 0; i < outputs; i++) print_number(i ? "," : "", (double)logits[i]);
    puts("]}");
    return GD_OK;
  }
  int count = 0;
  for (int32_t i = 0; i < outputs; i++) {
    int at = count < 5 ? count++ : 5;
    for (; at > 0 && logits[i] > logits[top[at - 1]]; at--)
      if (at < 5) top[at] = top[at - 1];
    if (at < 5) top[at] = i;
  }
  printf("position %lld, token %d:", (long long)position, p->ids->ids[position]);
  for (int i = 0; i < count; i++) printf("  %d %.5f", top[i], (double)logits[top[i]]);
  putchar('\n');
  return GD_OK;
}

static gd_status read_ids(const eval *e, gd_ids *ids) {
  if (e->prompt) {
    GD_TRY(need_tokenizer(e));
    int32_t start = gd_tokenizer_bos(e->model.tokenizer);
    if (start >= 0) GD_TRY(gd_ids_append(ids, &start, 1));
    return gd_tokenizer_encode(e->model.tokenizer, e->prompt, strlen(e->prompt), true, ids);
  }
  return gd_inference_parse_ids("--token-ids", e->token_ids, ids);
}

static gd_status logits(eval *e) {
  gd_ids ids = {0};
  logits_printer printer = {e, &ids};
  gd_status status = gd_session_agree(e->model.session, read_ids(e, &ids));
  if (status == GD_OK) status = gd_evaluator_logits(&e->evaluator, ids.ids, (int64_t)ids.count, print_logits, &printer);
  gd_ids_free(&ids);
  return status;
}

/* ---- generation ---- */

static gd_status write_and_score(eval *e) {
  gd_eval_generation_options options = {e->data, e->predictions, e->limit, e->texts.scores, e->line.json};
  int64_t done = 0, prompts = 0;
  GD_TRY(gd_session_agree(e->generate.model.session, gd_generate_open(&e->generate)));
  GD_TRY(gd_eval_generation(&e->generate, &options, &done, &prompts));
  e->cut = done < prompts;
  if (e->cut)
    gd_log(GD_LOG_WARNING, "stopped by a signal: the score is that of %lld of %lld prompts", (long long)done,
           (long long)prompts);
  return GD_OK;
}

static gd_status generation(eval *e, gd_session *session) {
  gd_generate *g = &e->generate;
  g->first = e->first;
  if (g->beams > 1) g->batch = 1; /* a search fills its slots alone */
  g->options = e->options;
  g->options.slots = g->batch * gd_generate_width(g);
  GD_TRY(gd_inference_open(session, &g->options, &g->model));
  gd_status status = write_and_score(e);
  gd_generate_close(g);
  gd_inference_close(&g->model);
  return status;
}

/* ---- classification ---- */

static gd_predictions answers(const gd_eval_labels *labels) {
  return (gd_predictions){gd_dataset_task(labels->dataset), labels->done, labels->labels, labels->probabilities, labels->loss};
}

static gd_status tell_answers(const eval *e, const gd_predictions *now, const gd_predictions *before) {
  gd_bytes text = {0}, lines = {0};
  gd_status status = e->line.json ? gd_eval_classes_json(now, before, &text) : gd_eval_classes_text(now, before, &text);
  if (status == GD_OK && e->predictions) status = gd_eval_classes_lines(now, &lines);
  if (status == GD_OK && e->predictions) status = gd_file_replace(e->predictions, lines.bytes, lines.count);
  if (status == GD_OK) fputs(text.bytes, stdout);
  gd_bytes_free(&text);
  gd_bytes_free(&lines);
  return status;
}

static gd_status ask_classifier(eval *e, const char *checkpoint, gd_eval_labels *labels) {
  GD_TRY(gd_session_agree(e->model.session, gd_eval_labels_check(labels, checkpoint, &e->model)));
  GD_TRY(gd_eval_labels_run(labels, &e->evaluator, stop_asked));
  note_cut(e, labels->done, labels->examples, "documents");
  return GD_OK;
}

/* The model of --compare takes the place of the one that was asked. */
static gd_status ask_earlier(eval *e, gd_eval_labels *labels) {
  gd_session *session = e->model.session;
  gd_evaluator_close(&e->evaluator);
  gd_inference_close(&e->model);
  e->options.checkpoint = e->compare;
  GD_TRY(gd_inference_open(session, &e->options, &e->model));
  GD_TRY(gd_session_agree(session, gd_evaluator_open(&e->model.model, &e->evaluator)));
  return ask_classifier(e, e->compare, labels);
}

static gd_status classification(eval *e) {
  gd_eval_labels labels = {0};
  gd_predictions now = {0}, before = {0};
  float *kept = 0;
  gd_session *session = e->model.session;
  gd_status status = gd_eval_labels_open(session, e->data, e->model.model.cache.capacity, e->limit, &labels);
  if (status == GD_OK) status = ask_classifier(e, e->options.checkpoint, &labels);
  if (status == GD_OK) now = answers(&labels);
  if (status == GD_OK && e->compare && !e->cut) {
    size_t bytes = (size_t)labels.examples * (size_t)now.task->label_count * sizeof *kept;
    kept = malloc(bytes);
    status = gd_session_agree(session, kept ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for two answers"));
    if (status == GD_OK) memcpy(kept, labels.probabilities, bytes);
    now.probabilities = kept;
    if (status == GD_OK) status = ask_earlier(e, &labels);
    before = answers(&labels);
  }
  bool both = before.examples > 0 && before.examples == now.examples;
  if (status == GD_OK && now.examples > 0)
    status = gd_session_agree(session, e->first ? tell_answers(e, &now, both ? &before : 0) : GD_OK);
  gd_eval_labels_close(&labels);
  free(kept);
  return status;
}

static gd_status work(void *context, gd_session *session) {
  eval *e = context;
  e->first = gd_session_rank(session) == 0;
  GD_TRY(check_options(e));
  e->options.context = e->length;
  if (e->kind == TASK_GENERATION) return generation(e, session);
  e->options.slots = e->kind == TASK_PIQA || e->kind == TASK_HELLASWAG ? GD_TASK_ANSWERS : 1;
  e->options.any_head = e->kind == TASK_LOGITS || e->kind == TASK_CLASSIFICATION;
  GD_TRY(gd_inference_open(session, &e->options, &e->model));
  gd_status status = gd_evaluator_open(&e->model.model, &e->evaluator);
  static gd_status (*const tasks[TASKS])(eval * e) = {
      [TASK_PERPLEXITY] = perplexity, [TASK_LOGITS] = logits, [TASK_CLASSIFICATION] = classification};
  if (status == GD_OK) status = tasks[e->kind] ? tasks[e->kind](e) : run_task(e);
  gd_evaluator_close(&e->evaluator);
  gd_inference_close(&e->model);
  return status;
}

/* ---- texts: no model, no job ---- */

/* Further words of the line are files of references. */
static gd_status eval_texts(eval *e) {
  gd_option_texts *references = &e->texts.references;
  for (int i = 0; i < e->line.arguments; i++) {
    if (references->count == 0)
      return gd_fail_user(GD_USAGE, "\"%.100s\": found a word that belongs to no option", e->line.argument[i]);
    if (references->count == GD_OPTION_MAX_TEXTS)
      return gd_fail_user(GD_USAGE, "--references: found more than %d of them", GD_OPTION_MAX_TEXTS);
    references->text[references->count++] = e->line.argument[i];
  }
  e->texts.json = e->line.json;
  return gd_eval_texts(e->task, &e->texts);
}

int main(int argc, char **argv) {
  static eval e = {.texts.scores.smooth_value = NAN}; /* large: a spec */
  gd_generate_defaults(&e.generate);
  e.generate.temperature = 0;
  e.generate.max_new_tokens = 256;
  const gd_option options[] = {
      {"--checkpoint", GD_OPTION_TEXT, &e.options.checkpoint, "DIR",
       "a checkpoint, RUN@best, RUN@STEP, a run or a Hugging Face model folder", 0, 0},
      {"--task", GD_OPTION_TEXT, &e.task, "TASK", TASK_LIST, 0, 0},
      {"--data", GD_OPTION_TEXT, &e.data, "F",
       "perplexity: a dataset, a split, a text; classification, generation: a split; others: JSON Lines", 0, 0},
      {"--token-ids", GD_OPTION_TEXT, &e.token_ids, "IDS", "logits: ids, \"1 2 3\"", 0, 0},
      {"--prompt", GD_OPTION_TEXT, &e.prompt, "TEXT", "logits: a text", 0, 0},
      {"--hypotheses", GD_OPTION_TEXT, &e.texts.hypotheses, "F",
       "bleu, rouge, exact: texts, one a line (- is standard input), or JSON Lines", 0, 0},
      {"--references", GD_OPTION_TEXTS, &e.texts.references, "F...",
       "what they should be, files alike; a list in JSON Lines is several", 0, 0},
      {"--hypothesis-field", GD_OPTION_TEXT, &e.texts.hypothesis_field, "NAME",
       "they are JSON Lines, whatever the name, and this is the field (text)", 0, 0},
      {"--reference-field", GD_OPTION_TEXT, &e.texts.reference_field, "NAME", "the same of the references (text)", 0, 0},
      {"--tokenize", GD_OPTION_TEXT, &e.texts.scores.tokenize, "none|13a|zh|char",
       "bleu (13a) and rouge (runs of a-z and 0-9): how words are found", 0, 0},
      {"--smooth", GD_OPTION_TEXT, &e.texts.scores.smooth, "METHOD",
       "bleu, in place of a precision of 0: none, floor, add-k, exp (exp)", 0, 0},
      {"--smooth-value", GD_OPTION_NUMBER, &e.texts.scores.smooth_value, "X", "of floor (0.1) and add-k (1)", 0, 1e6},
      {"--effective-order", GD_OPTION_FLAG, &e.texts.scores.effective_order, 0,
       "bleu: leave out orders that no text is long enough for", 0, 0},
      {"--compare", GD_OPTION_TEXT, &e.compare, "DIR", "classification: an earlier checkpoint, whose scores are put beside", 0,
       0},
      {"--predictions", GD_OPTION_TEXT, &e.predictions, "F", "classification, generation: write each answer there, JSON Lines",
       0, 0},
      {"--batch", GD_OPTION_INTEGER, &e.generate.batch, "B", "generation: texts at once (8)", 1, 4096},
      {"--max-new-tokens", GD_OPTION_INTEGER, &e.generate.max_new_tokens, "N", "generation: tokens of a text (256)", 1, 1e9},
      {"--beams", GD_OPTION_INTEGER, &e.generate.beams, "B", "generation: beam search; 1: the most likely token (1)", 1,
       GD_MOST_BEAMS},
      {"--length-penalty", GD_OPTION_NUMBER, &e.generate.length_penalty, "P", "of beams, as gptdist-generate has it (1)", -100,
       100},
      {"--limit", GD_OPTION_INTEGER, &e.limit, "N", "only the first N windows, items, documents or prompts; 0 = all (0)", 0,
       9e15},
      {"--length", GD_OPTION_INTEGER, &e.length, "N", "tokens of a window; 0 = the model's context (0)", 0, 1e8},
      {"--tensor", GD_OPTION_INTEGER, &e.options.tensor, "N", "ranks that share the model; 0 = all (0)", 0, 1e6},
      {"--tokenizer", GD_OPTION_TEXT, &e.options.tokenizer, "SPEC",
       "gpt2:DIR, tiktoken:FILE, llama2c:FILE, ... (the checkpoint's own)", 0, 0},
      {"--device", GD_OPTION_TEXT, &e.options.device, "auto|cpu|cuda", "where to compute (auto)", 0, 0},
      {"--dtype", GD_OPTION_TEXT, &e.options.dtype, "float32|bfloat16", "precision (the checkpoint's)", 0, 0},
      {"--threads", GD_OPTION_INTEGER, &e.options.threads, "N", "threads a rank; 0 = all cores (0)", 0, 4096},
      {0},
  };
  const gd_program program = {
      .name = "gptdist-eval",
      .purpose = "scores a trained model",
      .usage =
          "--checkpoint DIR --task perplexity|logits|lambada|piqa|hellaswag|classification|generation [--data F]\n"
          "       gptdist-eval --task bleu|rouge|exact --hypotheses F --references F...",
      .takes_arguments = true, /* --references F F F */
      .more =
          "perplexity: windows of --length tokens, every target once, the first of each window after one token; of examples "
          "for\n"
          "sft one each, its responses after what is before them.\n"
          "Under mpirun, --tensor N ranks share the model and windows or items are dealt to the groups.\n"
          "generation: the model writes the responses of a split prepared for sft (gptdist-data prepare --task sft), the most "
          "likely\n"
          "token each time, and they are scored as bleu, rouge and exact do.\n"
          "classification: the report of scikit-learn and the confusion matrix; with --compare also McNemar's exact test.\n"
          "bleu, rouge and exact need no model. bleu is sacreBLEU's, rouge is rouge-score's without stemmer, exact compares as "
          "SQuAD\n"
          "does, and by the last number. Several files of references: a text may be like any of them.\n"
          "Ctrl-C, TERM or USR1 once: the score of what is done is printed, and the exit code is 128 + the signal's number.",
      .options = options};
  gd_launch_environment environment;
  bool done = false;
  gd_session_environment(&environment);
  gd_console_open("gptdist-eval", environment.rank);
  gd_status status = gd_options_parse(&program, argc, argv, &e.line, &done);
  if (status == GD_OK && !done && e.task && gd_eval_texts_has(e.task))
    return gd_console_leave(environment.rank == 0 ? eval_texts(&e) : GD_OK, false);
  if (status == GD_OK && !done && e.line.arguments > 0)
    status = gd_fail_user(GD_USAGE, "\"%.100s\": found a word that belongs to no option", e.line.argument[0]);
  if (status != GD_OK || done) return gd_console_leave(status, false);
  status = gd_signals_install();
  if (status != GD_OK) return gd_console_leave(status, true);
  int code = gd_inference_main(work, &e);
  return code == 0 && e.cut && gd_signals_pending() ? 128 + gd_signals_pending() : code;
}
