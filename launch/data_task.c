/* data_task.c - the options that make examples of a task, and what is told of them. */
#include "launch/data_task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "launch/data_brought.h"

/* What a column may be to a task. */
typedef struct role {
  const char *name;
  gd_column_role role;
  gd_data_task_kind task;
  gd_column_kind kind;
  bool several;  /* may be said of several columns */
  bool optional; /* may be missing or empty in a row */
} role;

static const role roles[] = {
    {"text", GD_ROLE_TEXT, GD_TASK_CLASSIFICATION, GD_COLUMN_TEXT, false, false},
    {"label", GD_ROLE_LABEL, GD_TASK_CLASSIFICATION, GD_COLUMN_SCALAR, true, false},
    {"prompt", GD_ROLE_PROMPT, GD_TASK_SFT, GD_COLUMN_TEXT, false, false},
    {"response", GD_ROLE_RESPONSE, GD_TASK_SFT, GD_COLUMN_TEXT, false, false},
    {"instruction", GD_ROLE_INSTRUCTION, GD_TASK_SFT, GD_COLUMN_TEXT, false, false},
    {"input", GD_ROLE_INPUT, GD_TASK_SFT, GD_COLUMN_TEXT, false, true},
    {"output", GD_ROLE_OUTPUT, GD_TASK_SFT, GD_COLUMN_TEXT, false, false},
    {"messages", GD_ROLE_MESSAGES, GD_TASK_SFT, GD_COLUMN_JSON, false, false},
    {"system", GD_ROLE_SYSTEM, GD_TASK_SFT, GD_COLUMN_TEXT, false, true},
};
enum { ROLES = sizeof roles / sizeof *roles };

static gd_status read_kind(const char *name, gd_data_task_kind *out) {
  *out = GD_TASK_LM;
  if (!name || strcmp(name, "lm") == 0) return GD_OK;
  *out = GD_TASK_CLASSIFICATION;
  if (strcmp(name, gd_data_task_name(*out)) == 0) return GD_OK;
  *out = GD_TASK_SFT;
  if (strcmp(name, gd_data_task_name(*out)) == 0) return GD_OK;
  return gd_fail_user(GD_USAGE, "--task: found \"%s\", expected lm, classification or sft", name);
}

static gd_status unknown_role(const char *word, gd_data_task_kind task) {
  gd_bytes known = {0};
  gd_status status = GD_OK;
  for (int i = 0; status == GD_OK && i < ROLES; i++)
    if (roles[i].task == task) status = gd_bytes_printf(&known, "%s%s", known.count ? ", " : "", roles[i].name);
  if (status == GD_OK)
    status =
        gd_fail_user(GD_USAGE, "--columns: found \"%s\", expected ROLE=COLUMN with one of the roles %s", word, known.bytes);
  gd_bytes_free(&known);
  return status;
}

/* One "ROLE=COLUMN", cut apart in place. */
static gd_status read_column(char *word, gd_data_task_kind task, gd_corpus_options *corpus, gd_task_words *out) {
  char *equal = strchr(word, '='), *end;
  const role *at = NULL;
  if (equal) *equal = 0;
  for (int i = 0; equal && i < ROLES; i++)
    if (roles[i].task == task && strcmp(roles[i].name, word) == 0) at = &roles[i];
  if (equal) *equal = '=';
  if (!at || !equal[1]) return unknown_role(word, task);
  int32_t k = corpus->column_count;
  if (k == GD_CORPUS_COLUMNS) return gd_fail_user(GD_USAGE, "--columns: more than %d columns", GD_CORPUS_COLUMNS);
  gd_corpus_column column = {.kind = at->kind, .optional = at->optional, .empty_ok = at->optional};
  column.number = strtoll(equal + 1, &end, 10);
  if (*end) column.number = 0;
  if (column.number < 1) column.name = equal + 1;
  for (int32_t i = 0; i < k; i++) {
    const gd_corpus_column *other = &out->columns[i];
    bool same = column.name && other->name ? strcmp(column.name, other->name) == 0 : column.number == other->number;
    if (out->roles[i] == at->role && !at->several)
      return gd_fail_user(GD_USAGE, "--columns: \"%s\": there is a column for %s already", word, at->name);
    if (same && !column.name == !other->name)
      return gd_fail_user(GD_USAGE, "--columns: \"%s\": this column is named twice", word);
  }
  out->columns[k] = column;
  out->roles[k] = at->role;
  corpus->column_count++;
  return GD_OK;
}

/* Columns that make a task: a text and its labels; a prompt and a response, an instruction and an output, or messages. */
static gd_status check_roles(const char *text, gd_data_task_kind task, int32_t count, const gd_task_words *out) {
  bool has[GD_COLUMN_ROLES] = {false};
  for (int32_t k = 0; k < count; k++) has[out->roles[k]] = true;
  if (task == GD_TASK_CLASSIFICATION && has[GD_ROLE_TEXT] && has[GD_ROLE_LABEL]) return GD_OK;
  if (task == GD_TASK_CLASSIFICATION)
    return gd_fail_user(GD_USAGE, "--columns: found \"%s\", expected a text and at least one label: label=1,text=2", text);
  bool pair = has[GD_ROLE_PROMPT] && has[GD_ROLE_RESPONSE], alpaca = has[GD_ROLE_INSTRUCTION] && has[GD_ROLE_OUTPUT];
  bool any_pair = has[GD_ROLE_PROMPT] || has[GD_ROLE_RESPONSE];
  bool any_alpaca = has[GD_ROLE_INSTRUCTION] || has[GD_ROLE_INPUT] || has[GD_ROLE_OUTPUT];
  if ((pair && !any_alpaca && !has[GD_ROLE_MESSAGES]) || (alpaca && !any_pair && !has[GD_ROLE_MESSAGES]) ||
      (has[GD_ROLE_MESSAGES] && count == 1))
    return GD_OK;
  return gd_fail_user(GD_USAGE,
                      "--columns: found \"%s\", expected prompt and response, instruction and output (and input), either with "
                      "or without a system, or messages alone",
                      text);
}

static gd_status read_columns(const char *text, gd_data_task_kind task, gd_corpus_options *corpus, gd_task_words *out) {
  out->text = strdup(text);
  if (!out->text) return gd_fail(GD_NO_MEMORY, "no memory for --columns");
  char *rest = out->text;
  corpus->columns = out->columns;
  while (rest) GD_TRY(read_column(strsep(&rest, ","), task, corpus, out));
  return check_roles(text, task, corpus->column_count, out);
}

static gd_status read_split(const char *text, double out[GD_PREPARE_SPLITS]) {
  const char *at = text;
  double sum = 0;
  bool good = true;
  int count = 0;
  for (; good && count < GD_PREPARE_SPLITS; count++) {
    char *end;
    out[count] = strtod(at, &end);
    good = end > at && out[count] >= 0 && out[count] <= 1;
    sum += out[count];
    at = end;
    if (*at != ',') break;
    at++;
  }
  if (good && !*at && count < GD_PREPARE_SPLITS && count > 0 && out[0] > 0 && fabs(sum - 1) < 1e-6) return GD_OK;
  return gd_fail_user(
      GD_USAGE,
      "--split: found \"%s\", expected two or three numbers whose sum is 1, for train, validation and test, as in "
      "0.8,0.1,0.1",
      text);
}

/* Options that mean nothing without a task, or beside each other. */
static gd_status check(const gd_task_options *in, gd_data_task_kind kind, const gd_prepare_options *options) {
  const char *alone = in->columns         ? "--columns"
                      : in->labels        ? "--labels"
                      : in->split         ? "--split"
                      : in->cut           ? "--cut"
                      : in->max_tokens    ? "--max-tokens"
                      : in->seed          ? "--seed"
                      : in->layout        ? "--template"
                      : in->loss          ? "--loss"
                      : in->too_long      ? "--long"
                      : in->repeated      ? "--repeated"
                      : in->held[0].count ? "--validation"
                      : in->held[1].count ? "--test"
                                          : NULL;
  if (kind == GD_TASK_LM && alone) return gd_fail_user(GD_USAGE, "%s: belongs to a task; see --task", alone);
  if (kind == GD_TASK_LM) return GD_OK;
  if (options->validation_fraction > 0)
    return gd_fail_user(GD_USAGE, "--validation-fraction: is for plain text; a task has --split");
  if (options->corpus.text_field || options->corpus.text_column)
    return gd_fail_user(GD_USAGE, "%s: is for plain text; a task has --columns",
                        options->corpus.text_field ? "--text-field" : "--text-column");
  if (in->split && in->held[0].count)
    return gd_fail_user(GD_USAGE, "--split: stands beside --validation, expected one of them");
  if (kind == GD_TASK_CLASSIFICATION && (in->layout || in->loss || in->too_long))
    return gd_fail_user(GD_USAGE, "%s: belongs to --task sft", in->layout ? "--template" : in->loss ? "--loss" : "--long");
  if (kind == GD_TASK_SFT && in->labels) return gd_fail_user(GD_USAGE, "--labels: belongs to --task classification");
  if (kind == GD_TASK_SFT && in->cut) return gd_fail_user(GD_USAGE, "--cut: belongs to --task classification; sft has --long");
  if (in->too_long && !in->max_tokens) return gd_fail_user(GD_USAGE, "--long: nothing is too long without --max-tokens");
  if (kind == GD_TASK_CLASSIFICATION && !in->columns)
    return gd_fail_user(GD_USAGE, "--task %s needs --columns; see gptdist-data prepare --help", in->task);
  if (in->cut && strcmp(in->cut, "tail") != 0 && strcmp(in->cut, "head") != 0)
    return gd_fail_user(GD_USAGE, "--cut: found \"%s\", expected tail or head", in->cut);
  if (in->repeated && strcmp(in->repeated, "drop") != 0 && strcmp(in->repeated, "keep") != 0 &&
      strcmp(in->repeated, "refuse") != 0)
    return gd_fail_user(GD_USAGE, "--repeated: found \"%s\", expected drop, keep or refuse", in->repeated);
  if (in->repeated && !in->held[0].count && !in->held[1].count)
    return gd_fail_user(GD_USAGE, "--repeated: no text stands in two splits without --validation or --test");
  if (in->cut && !in->max_tokens) return gd_fail_user(GD_USAGE, "--cut: cuts nothing without --max-tokens");
  return GD_OK;
}

static gd_status read_sft(const gd_task_options *in, gd_task_words *out, gd_prepare_options *options) {
  gd_prepare_task *task = &options->task;
  const char *loss = in->loss ? in->loss : "responses", *too_long = in->too_long ? in->too_long : "drop";
  if (strcmp(loss, "responses") != 0 && strcmp(loss, "all") != 0)
    return gd_fail_user(GD_USAGE, "--loss: found \"%s\", expected responses or all", loss);
  if (strcmp(too_long, "drop") != 0 && strcmp(too_long, "cut") != 0 && strcmp(too_long, "refuse") != 0)
    return gd_fail_user(GD_USAGE, "--long: found \"%s\", expected drop, cut or refuse", too_long);
  task->loss_all = strcmp(loss, "all") == 0;
  task->too_long = too_long[0] == 'd' ? GD_LONG_DROP : too_long[0] == 'c' ? GD_LONG_CUT : GD_LONG_REFUSE;
  task->layout = &out->layout;
  return gd_data_template(options->tokenizer, in->layout, &out->layout);
}

gd_status gd_data_read_task(const gd_task_options *in, gd_task_words *out, gd_prepare_options *options) {
  gd_prepare_task *task = &options->task;
  *out = (gd_task_words){0};
  GD_TRY(read_kind(in->task, &task->kind));
  GD_TRY(check(in, task->kind, options));
  if (task->kind == GD_TASK_LM) return GD_OK;
  GD_TRY(read_columns(in->columns ? in->columns : "instruction=instruction,input=input,output=output", task->kind,
                      &options->corpus, out));
  if (task->kind == GD_TASK_SFT) GD_TRY(read_sft(in, out, options));
  if (in->labels) GD_TRY(gd_data_labels(in->labels, &out->known));
  if (in->labels) task->known = &out->known;
  if (in->split) GD_TRY(read_split(in->split, task->split));
  if (in->held[1].count && task->split[2] > 0)
    return gd_fail_user(GD_USAGE, "--split: found \"%s\" beside --test, expected two numbers, for train and validation",
                        in->split);
  for (int k = 0; k < 2; k++) {
    GD_TRY(gd_inputs_expand(in->held[k].text, in->held[k].count, options->corpus.format, &out->held[k]));
    task->held[k] = (const char *const *)out->held[k].path;
    task->held_count[k] = out->held[k].count;
  }
  const char way = in->repeated ? in->repeated[0] : 'd';
  task->repeated = way == 'k' ? GD_REPEATED_KEEP : way == 'r' ? GD_REPEATED_REFUSE : GD_REPEATED_DROP;
  task->roles = out->roles;
  task->seed = (uint64_t)in->seed;
  task->max_tokens = in->max_tokens;
  task->cut_head = in->cut && strcmp(in->cut, "head") == 0;
  return GD_OK;
}

void gd_task_words_free(gd_task_words *task) {
  gd_inputs_free(&task->held[0]);
  gd_inputs_free(&task->held[1]);
  gd_template_free(&task->layout);
  gd_data_task_free(&task->known);
  free(task->text);
  *task = (gd_task_words){0};
}

/* ---- the report ---- */

static gd_status tell_json(const gd_prepare_report *report, gd_bytes *out) {
  const gd_data_task *task = &report->task;
  GD_TRY(gd_bytes_printf(out, ", \"task\": \"%s\", \"test_tokens\": %lld, \"test_documents\": %lld, \"cut\": %lld",
                         gd_data_task_name(task->kind), (long long)report->tokens[2], (long long)report->documents[2],
                         (long long)report->cut));
  if (task->kind == GD_TASK_SFT)
    return gd_bytes_printf(
        out,
        ", \"repeated\": %lld, \"dropped_long\": %lld, \"joined_differently\": %lld, \"train_targets\": %lld, "
        "\"validation_targets\": %lld, \"test_targets\": %lld, \"template\": %s",
        (long long)report->repeated, (long long)report->dropped_long, (long long)report->differs, (long long)report->targets[0],
        (long long)report->targets[1], (long long)report->targets[2], task->layout);
  GD_TRY(gd_bytes_printf(out, ", \"repeated\": %lld, \"disputed\": %lld, \"labels\": [", (long long)report->repeated,
                         (long long)report->disputed));
  for (int32_t k = 0; k < task->label_count; k++) {
    const int64_t *counts = report->label_documents + k;
    GD_TRY(gd_bytes_printf(out, "%s{\"label\": ", k ? ", " : ""));
    GD_TRY(gd_json_quote(out, task->labels[k], strlen(task->labels[k])));
    GD_TRY(gd_bytes_printf(out, ", \"train\": %lld, \"validation\": %lld, \"test\": %lld}", (long long)counts[0],
                           (long long)counts[task->label_count], (long long)counts[2 * task->label_count]));
  }
  return gd_bytes_printf(out, "]");
}

static gd_status tell_labels(const gd_prepare_report *report, gd_bytes *out) {
  enum { SHOWN = 12 };
  const gd_data_task *task = &report->task;
  const int64_t *counts = report->label_documents, labels = task->label_count;
  if (labels > SHOWN) {
    int64_t least = counts[0], most = counts[0];
    for (int64_t k = 1; k < labels; k++) {
      if (counts[k] < least) least = counts[k];
      if (counts[k] > most) most = counts[k];
    }
    return gd_bytes_printf(out, "%lld labels, %lld to %lld documents of train each\n", (long long)labels, (long long)least,
                           (long long)most);
  }
  for (int64_t k = 0; k < labels; k++)
    GD_TRY(gd_bytes_printf(out, "label %lld, %s: %lld, %lld, %lld documents\n", (long long)k, task->labels[k],
                           (long long)counts[k], (long long)counts[labels + k], (long long)counts[2 * labels + k]));
  return GD_OK;
}

static gd_status tell_template(const char *text, gd_bytes *out) {
  gd_template layout;
  gd_status status = gd_template_parse(text, "template", &layout);
  if (status == GD_OK) status = gd_bytes_printf(out, "template %s\n", layout.name);
  gd_template_free(&layout);
  return status;
}

gd_status gd_data_tell_task(const gd_prepare_report *report, bool json, gd_bytes *out) {
  if (report->task.kind == GD_TASK_LM) return GD_OK;
  if (json) return tell_json(report, out);
  const bool sft = report->task.kind == GD_TASK_SFT;
  if (sft)
    GD_TRY(gd_bytes_printf(out, "targets: %lld, %lld, %lld tokens\n", (long long)report->targets[0],
                           (long long)report->targets[1], (long long)report->targets[2]));
  else
    GD_TRY(tell_labels(report, out));
  if (sft) GD_TRY(tell_template(report->task.layout, out));
  if (report->cut)
    GD_TRY(gd_bytes_printf(out,
                           sft ? "%lld rows lost their oldest turns to --max-tokens\n" : "%lld texts cut to --max-tokens\n",
                           (long long)report->cut));
  if (report->dropped_long)
    GD_TRY(gd_bytes_printf(out, "%lld rows longer than --max-tokens left out\n", (long long)report->dropped_long));
  if (report->differs)
    GD_TRY(gd_bytes_printf(out, "%lld rows would have other tokens with prompt and response as one text\n",
                           (long long)report->differs));
  if (report->disputed)
    GD_TRY(gd_bytes_printf(out, "%lld rows repeat a text with other labels\n", (long long)report->disputed));
  if (report->repeated)
    GD_TRY(gd_bytes_printf(out, "%lld rows %s: their text or prompt stands in a later split, too\n",
                           (long long)report->repeated, report->keeps_repeated ? "kept" : "left out"));
  return GD_OK;
}
