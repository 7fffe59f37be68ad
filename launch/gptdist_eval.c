/* gptdist_eval.c - gptdist-eval: scores a model: `gptdist-eval --checkpoint DIR --task perplexity --data DATASET`. Under
 * mpirun --tensor N ranks share the model and the items are dealt to the others. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/console.h"
#include "launch/eval.h"
#include "launch/eval_generation.h"
#include "launch/signals.h"

typedef struct task {
  const char *name;
  gd_status (*run)(gd_eval *e); /* NULL: generation, which opens its model itself */
  int64_t slots;                /* 0: --batch */
  bool any_head;                /* a classifier will do */
  bool no_data;                 /* --data is not needed */
} task;

static const task tasks[] = {
    {"perplexity", gd_eval_perplexity, 1, false, false},
    {"logits", gd_eval_logits, 1, true, true},
    {"lambada", gd_eval_items, 1, false, false},
    {"piqa", gd_eval_items, GD_TASK_ANSWERS, false, false},
    {"hellaswag", gd_eval_items, GD_TASK_ANSWERS, false, false},
    {"classification", gd_eval_classification, 1, true, false},
    {"predict", gd_eval_predict, 0, true, true},
    {"generation", NULL, 0, false, false},
};
#define TASK_LIST "perplexity, logits, lambada, piqa, hellaswag, classification, predict, generation, bleu, rouge or exact"

static gd_status check_options(const gd_eval *e, const task **out) {
  const task *end = tasks + sizeof tasks / sizeof *tasks, *at = tasks;
  if (!e->task) return gd_fail_user(GD_USAGE, "--task: not given, expected " TASK_LIST);
  while (at < end && strcmp(e->task, at->name) != 0) at++;
  if (at == end) return gd_fail_user(GD_USAGE, "--task: found \"%s\", expected " TASK_LIST, e->task);
  if (!at->no_data && !e->data) return gd_fail_user(GD_USAGE, "--data: not given; --task %s reads it", e->task);
  if (at->run == gd_eval_logits && (e->token_ids != 0) + (e->prompt != 0) != 1)
    return gd_fail_user(GD_USAGE, "--task logits: give --token-ids or --prompt");
  *out = at;
  return GD_OK;
}

/* ---- generation ---- */

static gd_status write_and_score(gd_eval *e) {
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

static gd_status generation(gd_eval *e, gd_session *session) {
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

/* ---- the work ---- */

static gd_status work(void *context, gd_session *session) {
  gd_eval *e = context;
  const task *asked = NULL;
  e->first = gd_session_rank(session) == 0;
  GD_TRY(check_options(e, &asked));
  e->options.context = e->length;
  if (!asked->run) return generation(e, session);
  e->options.slots = asked->slots ? asked->slots : e->generate.batch;
  e->options.any_head = asked->any_head;
  GD_TRY(gd_inference_open(session, &e->options, &e->model));
  gd_status status = gd_evaluator_open(&e->model.model, &e->evaluator);
  if (status == GD_OK) status = asked->run(e);
  gd_evaluator_close(&e->evaluator);
  gd_inference_close(&e->model);
  return status;
}

/* ---- texts: no model, no job ---- */

/* Further words of the line are files of references. */
static gd_status eval_texts(gd_eval *e) {
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
  static gd_eval e = {.texts.scores.smooth_value = NAN}; /* large: a spec */
  gd_generate_defaults(&e.generate);
  e.generate.temperature = 0;
  e.generate.max_new_tokens = 256;
  const gd_option options[] = {
      {"--checkpoint", GD_OPTION_TEXT, &e.options.checkpoint, "DIR",
       "a checkpoint, RUN@best, RUN@STEP, a run or a Hugging Face model folder", 0, 0},
      {"--task", GD_OPTION_TEXT, &e.task, "TASK", "what is done, one of those above", 0, 0},
      {"--data", GD_OPTION_TEXT, &e.data, "F",
       "perplexity: a dataset, a split, a text; classification, generation: a split; others: JSON Lines", 0, 0},
      {"--format", GD_OPTION_TEXT, &e.format, "jsonl|text|csv|tsv",
       "predict: a record, a text or a row a line (by name, else jsonl)", 0, 0},
      {"--text-field", GD_OPTION_TEXT, &e.text_field, "NAME",
       "predict: the field of a record, or column of a row, that is the text (text)", 0, 0},
      {"--text-column", GD_OPTION_INTEGER, &e.text_column, "N",
       "predict: csv, tsv without a header row: the column of the text", 1, 1e6},
      {"--max-tokens", GD_OPTION_INTEGER, &e.length, "N",
       "predict: cut texts to N tokens (as those of the training were, else to a sequence of it)", 1, 1e8},
      {"--cut", GD_OPTION_TEXT, &e.cut_end, "tail|head", "predict: the end of a text that goes (as in the training)", 0, 0},
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
      {"--batch", GD_OPTION_INTEGER, &e.generate.batch, "B", "generation, predict: texts at once (8)", 1, 4096},
      {"--max-new-tokens", GD_OPTION_INTEGER, &e.generate.max_new_tokens, "N", "generation: tokens of a text (256)", 1, 1e9},
      {"--beams", GD_OPTION_INTEGER, &e.generate.beams, "B", "generation: beam search; 1: the most likely token (1)", 1,
       GD_MOST_BEAMS},
      {"--length-penalty", GD_OPTION_NUMBER, &e.generate.length_penalty, "P", "of beams, as gptdist-generate has it (1)", -100,
       100},
      {"--limit", GD_OPTION_INTEGER, &e.limit, "N", "only the first N windows, items, documents, prompts or lines; 0 = all (0)",
       0, 9e15},
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
          "       gptdist-eval --checkpoint DIR --task predict < new.jsonl > labelled.jsonl\n"
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
          "predict: lines with labels, in order, as they come; each text's is what it would be alone. A line or row that is no "
          "use has an\n"
          "\"error\" in its place and is told with file and line; the others are done, and the exit code is 65.\n"
          "bleu, rouge and exact need no model. bleu is sacreBLEU's, rouge is rouge-score's without stemmer, exact compares as "
          "SQuAD\n"
          "does, and by the last number. Several files of references: a text may be like any of them.\n"
          "Ctrl-C, TERM or USR1 once: what is done is printed, the score of it, and the exit code is 128 + the signal's "
          "number.",
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
