/* eval_predict.c - gptdist-eval --task predict: a text a line in, its label a line out, in the same order, several at once. The
 * texts of a round are dealt to the data ranks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/data/label_text.h"
#include "io/text/corpus.h"
#include "launch/eval.h"
#include "launch/eval_classes.h"
#include "launch/eval_labels.h"
#include "launch/line_records.h"
#include "shard/base/log.h"

typedef struct question {
  gd_line_record line;
  gd_ids ids;
  gd_bytes kept; /* members of the record as they are written, but for those of an answer */
} question;

typedef struct predictor {
  gd_eval *e;
  const char *field;
  int32_t most; /* tokens of a text; a longer one is cut */
  gd_lines lines;
  question **round; /* [batch * data ranks]: of question i the answer is on data rank i % data ranks */
  gd_scored *texts; /* [batch]: of this rank */
  float *logits;    /* [batch][outputs] */
  float *mine;      /* [batch][labels]: probabilities */
  float *all;       /* [ranks] of them */
  int32_t asked;    /* in round */
  int64_t answered, cut;
} predictor;

/* ---- a line to a question ---- */

static bool is_kept(const char *key) {
  static const char *const answers[] = {"predicted", "probability", "probabilities"};
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
    if (strcmp(key, answers[i]) == 0) return false;
  return true;
}

static gd_status encode(predictor *p, const char *text, size_t count, question *q) {
  bool cut;
  if (gd_corpus_is_empty(text, count)) return gd_fail_user(GD_BAD_DATA, "the text is empty");
  GD_TRY(gd_label_text_encode(p->e->model.tokenizer, text, count, p->most, p->e->cut_head, &q->ids, &cut));
  p->cut += cut;
  return GD_OK;
}

static gd_status read_question(void *context, const gd_json *object, const gd_bytes *text, gd_line_record *line) {
  predictor *p = context;
  question *q = (question *)(void *)line;
  gd_bytes found = {0};
  if (!object) {
    GD_TRY(gd_json_quote(&q->kept, p->field, strlen(p->field)));
    GD_TRY(gd_bytes_append(&q->kept, ":", 1));
    GD_TRY(gd_json_quote(&q->kept, text->bytes, text->count));
    return encode(p, text->bytes, text->count, q);
  }
  const gd_json *node;
  GD_TRY(gd_lines_member(object, p->field, &node));
  if (!gd_json_string(node))
    return gd_fail_user(GD_BAD_DATA,
                        node                ? "\"%.70s\": expected a string"
                        : p->e->text_column ? "no column %.70s, see --text-column"
                                            : "no \"%.70s\", see --text-field",
                        p->field);
  GD_TRY(gd_json_copy_members(object, text->bytes, is_kept, &q->kept));
  gd_status status = gd_json_text(node, &found);
  if (status == GD_OK) status = encode(p, found.count ? found.bytes : "", found.count, q);
  gd_bytes_free(&found);
  return status;
}

static void release_question(void *context, gd_line_record *line) {
  question *q = (question *)(void *)line;
  (void)context;
  gd_ids_free(&q->ids);
  gd_bytes_free(&q->kept);
}

/* ---- a round of questions ---- */

/* Fills the round with what is there now; waits for a line only where it is empty. */
static gd_status fill(predictor *p) {
  int64_t most = p->e->generate.batch * p->e->model.mesh.size[GD_AXIS_DATA];
  for (p->asked = 0; p->asked < most;) {
    gd_line_record *line;
    if (p->e->limit > 0 && p->lines.read >= p->e->limit) p->lines.end = true;
    GD_TRY(gd_lines_next(&p->lines, p->asked == 0, &line));
    if (!line) return GD_OK;
    if (!line->out.count) p->round[p->asked++] = (question *)(void *)line;
    GD_TRY(gd_lines_print(&p->lines));
  }
  return GD_OK;
}

/* This rank's questions: probabilities to mine. */
static gd_status ask(predictor *p) {
  gd_evaluator *evaluator = &p->e->evaluator;
  const gd_data_task *task = &p->e->model.task;
  int32_t outputs = gd_model_outputs(evaluator->model), count = 0;
  for (int32_t i = evaluator->model->data->rank; i < p->asked; i += evaluator->model->data->size, count++) {
    const gd_ids *ids = &p->round[i]->ids;
    p->texts[count] = (gd_scored){.tokens = ids->ids, .count = (int64_t)ids->count, .logits = p->logits + count * outputs};
  }
  GD_TRY(gd_evaluator_last(evaluator, p->texts, count));
  for (int32_t i = 0; i < count; i++)
    (void)gd_eval_labels_answer(task, p->texts[i].logits, outputs, NULL, p->mine + (int64_t)i * task->label_count);
  return GD_OK;
}

/* What all ranks said, into the questions' lines. */
static gd_status tell(predictor *p) {
  const gd_inference *model = &p->e->model;
  const gd_data_task *task = &model->task;
  for (int32_t i = 0; i < p->asked; i++) {
    question *q = p->round[i];
    gd_bytes *out = &q->line.out;
    int32_t place[GD_AXES] = {0}, data = model->mesh.size[GD_AXIS_DATA];
    place[GD_AXIS_DATA] = i % data;
    int64_t row = gd_mesh_rank(&model->mesh, place) * p->e->generate.batch + i / data;
    GD_TRY(q->kept.count ? gd_bytes_printf(out, "{%s,", q->kept.bytes) : gd_bytes_append(out, "{", 1));
    GD_TRY(gd_eval_classes_answer(task, p->all + row * task->label_count, out));
    GD_TRY(gd_bytes_append(out, "}", 1));
  }
  p->answered += p->asked;
  return GD_OK;
}

static gd_status run(predictor *p) {
  gd_session *session = p->e->model.session;
  size_t bytes = (size_t)p->e->generate.batch * (size_t)p->e->model.task.label_count * sizeof(float);
  double start = gd_machine_seconds();
  bool stop = false;
  while (!p->lines.end) {
    GD_TRY(gd_inference_stop_asked(session, &stop));
    if (stop) break;
    gd_session_progress(session, "evaluation", p->answered);
    GD_TRY(fill(p));
    if (p->asked == 0) continue;
    GD_TRY(gd_session_agree(session, ask(p)));
    GD_TRY(gd_session_all_gather(session, p->mine, p->all, bytes));
    GD_TRY(tell(p));
    GD_TRY(gd_lines_print(&p->lines));
  }
  p->e->cut = stop;
  if (stop && p->e->first) gd_log(GD_LOG_WARNING, "stopped by a signal behind line %lld", (long long)p->lines.line);
  double seconds = gd_machine_seconds() - start;
  if (p->e->first && p->answered > 0)
    gd_log(GD_LOG_INFO, "%lld texts in %.2f s (%.1f texts/s, waiting included), %lld of them cut to %d tokens",
           (long long)p->answered, seconds, seconds > 0 ? (double)p->answered / seconds : 0.0, (long long)p->cut, p->most);
  return gd_lines_verdict(&p->lines);
}

/* ---- the work ---- */

static const struct {
  const char *name;
  gd_corpus_format format;
  gd_line_form form;
} forms[] = {{"jsonl", GD_CORPUS_JSONL, GD_LINES_OBJECTS},
             {"text", GD_CORPUS_TEXT, GD_LINES_TEXTS},
             {"csv", GD_CORPUS_CSV, GD_LINES_CSV},
             {"tsv", GD_CORPUS_TSV, GD_LINES_TSV}};
enum { FORMS = sizeof forms / sizeof *forms };

/* What the lines are, by the options or the file's name. */
static gd_status find_form(const gd_eval *e, gd_line_form *out) {
  gd_corpus_format named = strcmp(e->data, "-") == 0 ? GD_CORPUS_AUTO : gd_corpus_format_of(e->data);
  if (gd_corpus_is_packed(e->data))
    return gd_fail_user(GD_USAGE, "--data: found %s, which is packed; give its lines to standard input", e->data);
  if (named == GD_CORPUS_AUTO || (named == GD_CORPUS_TEXT && e->text_field)) named = GD_CORPUS_JSONL;
  for (int i = 0; i < FORMS; i++) {
    *out = forms[i].form;
    if (e->format ? strcmp(e->format, forms[i].name) == 0 : forms[i].format == named) return GD_OK;
  }
  if (e->format) return gd_fail_user(GD_USAGE, "--format: found \"%s\", expected jsonl, text, csv or tsv", e->format);
  return gd_fail_user(GD_USAGE, "--data: found %s, expected JSON Lines, CSV, TSV, or texts, one a line; see --format", e->data);
}

static gd_status find_format(const gd_eval *e, gd_line_format *out) {
  GD_TRY(find_form(e, &out->form));
  const bool rows = out->form == GD_LINES_CSV || out->form == GD_LINES_TSV;
  if (e->text_column && e->text_field) return gd_fail_user(GD_USAGE, "--text-column: stands beside --text-field, expected one");
  if (e->text_column && !rows) return gd_fail_user(GD_USAGE, "--text-column: is for csv and tsv; see --format");
  out->field = !rows || e->text_column ? NULL : e->text_field ? e->text_field : "text";
  return GD_OK;
}

static gd_status check(gd_eval *e, gd_line_format *format) {
  const gd_data_task *task = &e->model.task;
  int32_t classes = e->model.spec.model.classes;
  if (classes == 0) return gd_fail_user(GD_USAGE, "%s: is a language model, expected a classifier", e->options.checkpoint);
  bool binary = classes == 1 && task->label_count == 2 && !task->multiple;
  if (task->kind != GD_TASK_CLASSIFICATION || (classes != task->label_count && !binary))
    return gd_fail_user(GD_BAD_DATA, "%s: names %d labels, but has %d outputs", e->options.checkpoint, task->label_count,
                        classes);
  if (e->cut_end && strcmp(e->cut_end, "tail") != 0 && strcmp(e->cut_end, "head") != 0)
    return gd_fail_user(GD_USAGE, "--cut: found \"%s\", expected tail or head", e->cut_end);
  e->cut_head = e->cut_end ? strcmp(e->cut_end, "head") == 0 : task->cut_head;
  GD_TRY(find_format(e, format));
  return gd_eval_need_tokenizer(e);
}

/* Of a text: as asked for, else as the texts of training had them, where that is known, else a sequence. */
static int32_t most_tokens(const gd_eval *e) {
  int32_t capacity = e->model.model.cache.capacity, kept = e->model.task.max_tokens;
  int32_t most = e->length ? capacity : kept ? kept : e->model.trained;
  return most < capacity ? most : capacity;
}

static gd_status open_round(predictor *p) {
  const gd_inference *model = &p->e->model;
  size_t batch = (size_t)p->e->generate.batch, answer = batch * (size_t)model->task.label_count;
  p->round = malloc(batch * (size_t)model->mesh.size[GD_AXIS_DATA] * sizeof *p->round);
  p->texts = malloc(batch * sizeof *p->texts);
  p->logits = malloc(batch * (size_t)gd_model_outputs(&model->model) * sizeof *p->logits);
  p->mine = calloc(answer, sizeof *p->mine);
  p->all = malloc(answer * (size_t)gd_session_ranks(model->session) * sizeof *p->all);
  if (p->round && p->texts && p->logits && p->mine && p->all) return GD_OK;
  return gd_fail(GD_NO_MEMORY, "no memory for %zu texts of all ranks", batch);
}

gd_status gd_eval_predict(gd_eval *e) {
  predictor p = {.e = e, .field = e->text_field ? e->text_field : "text"};
  const gd_line_kind kind = {sizeof(question), read_question, release_question, &p};
  gd_line_format format = {0};
  char column[24];
  if (!e->data) e->data = "-";
  gd_status status = check(e, &format);
  snprintf(column, sizeof column, "%lld", (long long)e->text_column);
  if (e->text_column) p.field = column;
  p.most = most_tokens(e);
  if (status == GD_OK) status = open_round(&p);
  status = gd_session_agree(e->model.session, status);
  if (status == GD_OK) {
    status = gd_lines_open(e->model.session, e->data, &format, &kind, &p.lines);
    if (status == GD_OK) status = run(&p);
    gd_lines_close(&p.lines);
  }
  free(p.round);
  free(p.texts);
  free(p.logits);
  free(p.mine);
  free(p.all);
  return status;
}
