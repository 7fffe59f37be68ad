/* evaluate_tasks.c - lambada, piqa and hellaswag: every item becomes a context and one to four answers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "trainer/evaluate.h"

enum { MAX_ANSWERS = GD_TASK_ANSWERS };

typedef struct answer {
  gd_ids ids;   /* context, then the answer */
  size_t first; /* where the answer begins; at least 1 */
  size_t bytes; /* of its text */
} answer;

typedef struct item {
  int count, right;
  answer answers[MAX_ANSWERS];
} item;

struct gd_task {
  gd_task_kind kind;
  gd_tokenizer *tokenizer; /* the caller's */
  item *items;
  int64_t count, capacity;
};

/* The context, begun as the tokenizer begins a text, then the answer, tokenised apart: a leading space belongs to the answer.
 */
static gd_status add_answer(const gd_task *task, item *out, const char *context, size_t context_bytes, const char *text) {
  answer *a = &out->answers[out->count++];
  int32_t start =
      gd_tokenizer_bos(task->tokenizer) >= 0 ? gd_tokenizer_bos(task->tokenizer) : gd_tokenizer_eot(task->tokenizer);
  if (start >= 0) GD_TRY(gd_ids_append(&a->ids, &start, 1));
  GD_TRY(gd_tokenizer_encode(task->tokenizer, context, context_bytes, false, &a->ids));
  a->first = a->ids.count;
  a->bytes = strlen(text);
  GD_TRY(gd_tokenizer_encode(task->tokenizer, text, a->bytes, false, &a->ids));
  if (a->first < 1 || a->ids.count == a->first) return gd_fail_user(GD_BAD_DATA, "empty context or answer");
  return GD_OK;
}

static gd_status read_lambada(const gd_task *task, const gd_json *line, item *out) {
  const char *text = gd_json_string(gd_json_get(line, "text")), *word = text ? strrchr(text, ' ') : 0;
  if (!word || word == text) return gd_fail_user(GD_BAD_DATA, "expected \"text\" of at least two words");
  return add_answer(task, out, text, (size_t)(word - text), word);
}

/* "context" + " answer". */
static gd_status read_choice(const gd_task *task, const char *context, const char *text, item *out) {
  gd_bytes spaced = {0};
  gd_status status = gd_bytes_printf(&spaced, " %s", text);
  if (status == GD_OK) status = add_answer(task, out, context, strlen(context), spaced.bytes);
  gd_bytes_free(&spaced);
  return status;
}

static gd_status read_choices(const gd_task *task, const gd_json *line, item *out) {
  bool piqa = task->kind == GD_TASK_PIQA;
  const char *context = gd_json_string(gd_json_get(line, piqa ? "goal" : "ctx")), *texts[MAX_ANSWERS] = {0};
  int64_t label = -1;
  int count = 0;
  if (piqa) {
    texts[count++] = gd_json_string(gd_json_get(line, "sol1"));
    texts[count++] = gd_json_string(gd_json_get(line, "sol2"));
  } else {
    for (const gd_json *e = gd_json_first(gd_json_get(line, "endings")); e && count < MAX_ANSWERS; e = gd_json_next(e))
      texts[count++] = gd_json_string(e);
  }
  const gd_json *label_node = gd_json_get(line, "label");
  if (!gd_json_integer(label_node, &label) && gd_json_string(label_node)) label = atoi(gd_json_string(label_node));
  if (!context || count < 2 || label < 0 || label >= count)
    return gd_fail_user(
        GD_BAD_DATA, "expected %s",
        piqa ? "\"goal\", \"sol1\", \"sol2\" and \"label\" (0 or 1)" : "\"ctx\", \"endings\" (2 to 4) and \"label\"");
  for (int i = 0; i < count; i++) {
    if (!texts[i]) return gd_fail_user(GD_BAD_DATA, "expected answers as strings");
    GD_TRY(read_choice(task, context, texts[i], out));
  }
  out->right = (int)label;
  return GD_OK;
}

static gd_status read_line(gd_task *task, const char *text, size_t count, const char *path, int64_t number) {
  gd_json *line;
  if (task->count == task->capacity) {
    int64_t capacity = task->capacity ? 2 * task->capacity : 1024;
    item *items = realloc(task->items, (size_t)capacity * sizeof *items);
    if (!items) return gd_fail(GD_NO_MEMORY, "no memory for %lld items", (long long)capacity);
    task->items = items;
    task->capacity = capacity;
  }
  GD_TRY(gd_json_parse(text, count, path, number, &line));
  item *out = &task->items[task->count++];
  memset(out, 0, sizeof *out);
  gd_status status = task->kind == GD_TASK_LAMBADA ? read_lambada(task, line, out) : read_choices(task, line, out);
  gd_json_free(line);
  return status == GD_OK ? status : gd_error_context(status, "%s:%lld", path, (long long)number);
}

gd_status gd_task_open(gd_task_kind kind, const char *path, gd_tokenizer *tokenizer, gd_task **out) {
  gd_bytes file = {0};
  gd_task *task = calloc(1, sizeof *task);
  if (!task) return gd_fail(GD_NO_MEMORY, "no memory for a task");
  task->kind = kind;
  task->tokenizer = tokenizer;
  gd_status status = gd_file_read(path, (size_t)1 << 30, &file);
  int64_t number = 0;
  for (size_t at = 0; status == GD_OK && at < file.count;) {
    const char *line = file.bytes + at, *end = memchr(line, '\n', file.count - at);
    size_t length = end ? (size_t)(end - line) : file.count - at;
    number++;
    if (length > 0) status = read_line(task, line, length, path, number);
    at += length + 1;
  }
  gd_bytes_free(&file);
  if (status == GD_OK && task->count == 0) status = gd_fail_user(GD_BAD_DATA, "%s: holds no lines", path);
  if (status != GD_OK) {
    gd_task_close(task);
    return status;
  }
  *out = task;
  return GD_OK;
}

int64_t gd_task_items(const gd_task *task) {
  return task->count;
}

void gd_task_close(gd_task *task) {
  for (int64_t i = 0; i < task->count; i++)
    for (int a = 0; a < task->items[i].count; a++) gd_ids_free(&task->items[i].answers[a].ids);
  free(task->items);
  free(task);
}

/* What is asked of an answer: its tokens behind the context; a context that is too long loses its beginning. */
static gd_status ask(const gd_evaluator *evaluator, const answer *a, gd_scored *out) {
  int64_t capacity = evaluator->model->cache.capacity, count = (int64_t)a->ids.count - 1, first = (int64_t)a->first - 1,
          skip = 0;
  if (count > capacity) skip = count - capacity;
  if (skip > first)
    return gd_fail_user(GD_BAD_DATA, "an answer of %zu tokens does not fit the context", a->ids.count - a->first);
  const int32_t *ids = a->ids.ids + skip;
  *out = (gd_scored){.tokens = ids, .targets = ids + 1, .count = count - skip, .first = first - skip};
  out->log_likelihood = calloc((size_t)count, sizeof *out->log_likelihood);
  out->greedy = calloc((size_t)count, sizeof *out->greedy);
  if (out->log_likelihood && out->greedy) return GD_OK;
  return gd_fail(GD_NO_MEMORY, "no memory for %lld scores", (long long)count);
}

/* Sums of the answers' log-likelihoods, and whether all tokens of one are the most likely ones. */
static gd_status score_answers(gd_evaluator *evaluator, const item *it, double sums[MAX_ANSWERS], bool greedy[MAX_ANSWERS]) {
  gd_scored texts[MAX_ANSWERS] = {{0}};
  gd_status status = GD_OK;
  for (int a = 0; a < it->count && status == GD_OK; a++) status = ask(evaluator, &it->answers[a], &texts[a]);
  if (status == GD_OK) status = gd_evaluator_score(evaluator, texts, it->count);
  for (int a = 0; a < it->count; a++) {
    sums[a] = 0;
    greedy[a] = true;
    for (int64_t i = texts[a].first; i < texts[a].count && status == GD_OK; i++) {
      sums[a] += texts[a].log_likelihood[i];
      greedy[a] = greedy[a] && texts[a].greedy[i];
    }
    free(texts[a].log_likelihood);
    free(texts[a].greedy);
  }
  return status;
}

gd_status gd_task_score(void *context, gd_evaluator *evaluator, int64_t index, double sums[GD_SCORE_SUMS]) {
  gd_task *task = *(gd_task **)context;
  const item *it = &task->items[index];
  double best = -INFINITY, best_by_byte = -INFINITY, scores[MAX_ANSWERS];
  bool greedy[MAX_ANSWERS];
  int chosen = 0, chosen_by_byte = 0;
  GD_TRY(score_answers(evaluator, it, scores, greedy));
  if (task->kind == GD_TASK_LAMBADA) {
    sums[0] += greedy[0];
    sums[1] -= scores[0];
    sums[2] += (double)(it->answers[0].ids.count - it->answers[0].first);
    return GD_OK;
  }
  for (int i = 0; i < it->count; i++) {
    double by_byte = scores[i] / (double)it->answers[i].bytes;
    if (scores[i] > best) {
      best = scores[i];
      chosen = i;
    }
    if (by_byte > best_by_byte) {
      best_by_byte = by_byte;
      chosen_by_byte = i;
    }
  }
  sums[0] += chosen == it->right;
  sums[3] += chosen_by_byte == it->right;
  return GD_OK;
}
