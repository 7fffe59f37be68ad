/* eval_generation.c - from the prompts of a split to texts, and from texts to scores. */
#include "launch/eval_generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/json.h"
#include "io/data/dataset.h"

/* A document: its prompt lies in `tokens` at first, and its response behind it, without its end token. */
typedef struct example {
  int64_t document;
  size_t first;
  int32_t prompt, response;
} example;

/* A prompt, and what was written. */
typedef struct item {
  int64_t first, count; /* its examples in sorted order, at least 1 */
  gd_bytes text;
  const char *stopped_by; /* NULL: it is not done */
  int64_t tokens;
} item;

typedef struct task {
  gd_generate *g;
  const gd_eval_generation_options *options;
  gd_dataset *dataset;
  gd_batch batch;
  gd_ids tokens;
  example *examples; /* [count], sorted by prompt */
  int64_t count;
  item *items; /* [item_count], in the order of the documents */
  int64_t item_count, next, done;
  gd_written *texts; /* [batch] */
  int64_t *writing;  /* [batch] the item that is written there; -1: none */
  gd_start *starts;  /* [batch] scratch */
  double seconds;
} task;

/* ---- prompts ---- */

static gd_status open_split(task *t) {
  const char *data = t->options->data;
  const gd_tokenizer *tokenizer = t->g->model.tokenizer;
  int32_t length = t->g->model.model.cache.capacity;
  char index[GD_PATH_BYTES];
  if (!tokenizer) return gd_fail_user(GD_USAGE, "%s brings no tokenizer; name one with --tokenizer", t->g->options.checkpoint);
  GD_TRY(gd_path_named(data, GD_PATH_FOLDER, "a split of a dataset"));
  GD_TRY(gd_path_join(index, sizeof index, data, "index.json"));
  if (!gd_file_exists(index)) return gd_fail_user(GD_USAGE, "%s: found no index.json, expected a split, as DATASET/test", data);
  GD_TRY(gd_dataset_open_split(data, length, false, false, &t->dataset));
  const gd_data_task *kind = gd_dataset_task(t->dataset);
  if (kind->kind != GD_TASK_SFT)
    return gd_fail_user(GD_USAGE, "%s: found data for %s, expected prompts and responses (gptdist-data prepare --task sft)",
                        data, gd_data_task_name(kind->kind));
  GD_TRY(gd_inference_check_data(&t->g->model, t->g->options.checkpoint, data, t->dataset));
  return gd_batch_open(1, length, &t->batch);
}

/* The last run of targets of a row is its response, and ends with the token that ends one. */
static gd_status add_example(task *t, int64_t draw) {
  gd_dataset_example place;
  int32_t count = 0;
  GD_TRY(gd_dataset_read(t->dataset, draw, 1, &t->batch, 0));
  GD_TRY(gd_dataset_examples(t->dataset, draw, &place, &count));
  int32_t last = place.count - 2; /* weights[i]: token i + 1 is a target */
  while (last >= 0 && t->batch.weights[last] == 0) last--;
  if (last < 0) return GD_OK;
  int32_t first = last;
  while (first > 0 && t->batch.weights[first - 1] != 0) first--;
  t->examples[t->count++] = (example){place.document, t->tokens.count, first + 1, last - first};
  t->g->ends[t->batch.tokens[last + 1]] = true;
  return gd_ids_append(&t->tokens, t->batch.tokens, (size_t)last + 1);
}

static int compare_prompts(const void *a, const void *b, void *tokens) {
  const example *x = a, *y = b;
  const int32_t *ids = tokens;
  for (int32_t i = 0; i < x->prompt && i < y->prompt; i++)
    if (ids[x->first + (size_t)i] != ids[y->first + (size_t)i])
      return ids[x->first + (size_t)i] < ids[y->first + (size_t)i] ? -1 : 1;
  if (x->prompt != y->prompt) return x->prompt < y->prompt ? -1 : 1;
  return (x->document > y->document) - (x->document < y->document);
}

static bool same_prompt(const task *t, const example *a, const example *b) {
  return a->prompt == b->prompt &&
         memcmp(t->tokens.ids + a->first, t->tokens.ids + b->first, (size_t)a->prompt * sizeof *t->tokens.ids) == 0;
}

static int compare_items(const void *a, const void *b, void *examples) {
  const example *of = examples;
  int64_t x = of[((const item *)a)->first].document, y = of[((const item *)b)->first].document;
  return (x > y) - (x < y);
}

static gd_status read_prompts(task *t) {
  int64_t rows = gd_dataset_windows(t->dataset);
  t->examples = malloc((size_t)(rows + 1) * sizeof *t->examples);
  t->items = calloc((size_t)rows + 1, sizeof *t->items);
  if (!t->examples || !t->items) return gd_fail(GD_NO_MEMORY, "no memory for %lld prompts", (long long)rows);
  for (int64_t draw = 0; draw < rows; draw++) GD_TRY(add_example(t, draw));
  if (t->count == 0) return gd_fail_user(GD_BAD_DATA, "%s: holds no response", t->options->data);
  qsort_r(t->examples, (size_t)t->count, sizeof *t->examples, compare_prompts, t->tokens.ids);
  for (int64_t i = 0; i < t->count; i++) {
    if (i == 0 || !same_prompt(t, &t->examples[i - 1], &t->examples[i])) t->items[t->item_count++].first = i;
    t->items[t->item_count - 1].count++;
  }
  qsort_r(t->items, (size_t)t->item_count, sizeof *t->items, compare_items, t->examples);
  if (t->options->limit > 0 && t->options->limit < t->item_count) t->item_count = t->options->limit;
  return GD_OK;
}

/* ---- texts ---- */

static gd_start take(task *t, int64_t group) {
  gd_generate *g = t->g;
  const example *e = &t->examples[t->items[t->next].first];
  gd_request request = {.prompt = {.ids = t->tokens.ids + e->first, .count = (size_t)e->prompt}, .seed = (uint64_t)g->seed};
  request.max_new_tokens = gd_generate_most(g, -1, request.prompt.count);
  t->writing[group] = t->next++;
  return (gd_start){request, (int32_t)group * gd_generate_width(g), &t->texts[group]};
}

/* Texts that have stopped leave their slots. */
static gd_status collect(task *t) {
  gd_generate *g = t->g;
  for (int64_t group = 0; group < g->batch; group++) {
    gd_written *w = &t->texts[group];
    if (t->writing[group] < 0 || !w->stopped_by) continue;
    item *it = &t->items[t->writing[group]];
    GD_TRY(gd_bytes_append(&it->text, w->text.bytes ? w->text.bytes : "", w->text.count));
    it->stopped_by = w->stopped_by;
    it->tokens = (int64_t)w->tokens.count;
    for (int32_t i = 0; i < gd_generate_width(g); i++) g->in_slots[group * gd_generate_width(g) + i] = 0;
    t->writing[group] = -1;
    t->done++;
    gd_session_progress(g->model.session, "evaluation", t->done);
  }
  return GD_OK;
}

/* Prompts for all slots that are free. */
static gd_status begin(task *t) {
  int32_t count;
  do {
    count = 0;
    for (int64_t group = 0; group < t->g->batch; group++)
      if (t->writing[group] < 0 && t->next < t->item_count) t->starts[count++] = take(t, group);
    if (count) GD_TRY(gd_generate_begin(t->g, t->starts, count));
    GD_TRY(collect(t)); /* a text may end with its first token */
  } while (count);
  return GD_OK;
}

static gd_status write_texts(task *t) {
  gd_generate *g = t->g;
  double start = gd_machine_seconds();
  bool stop = false;
  t->texts = calloc((size_t)g->batch, sizeof *t->texts);
  t->writing = malloc((size_t)g->batch * sizeof *t->writing);
  t->starts = calloc((size_t)g->batch, sizeof *t->starts);
  if (!t->texts || !t->writing || !t->starts) return gd_fail(GD_NO_MEMORY, "no memory for %lld texts", (long long)g->batch);
  for (int64_t group = 0; group < g->batch; group++) t->writing[group] = -1;
  while (t->done < t->item_count && !stop) {
    GD_TRY(begin(t));
    GD_TRY(gd_generate_step(g));
    GD_TRY(collect(t));
    GD_TRY(gd_inference_stop_asked(g->model.session, &stop));
  }
  t->seconds = gd_machine_seconds() - start;
  return GD_OK;
}

/* ---- scores ---- */

/* Texts of the responses of an item, one behind the other with a zero each; text[i] where each begins. */
static gd_status decode_references(const task *t, const item *it, gd_bytes *bytes, const char **text) {
  size_t *begins = malloc((size_t)it->count * sizeof *begins);
  gd_status status = begins ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %lld references", (long long)it->count);
  bytes->count = 0;
  for (int64_t i = 0; i < it->count && status == GD_OK; i++) {
    const example *e = &t->examples[it->first + i];
    const int32_t *response = t->tokens.ids + e->first + e->prompt;
    begins[i] = bytes->count;
    status = gd_tokenizer_decode(t->g->model.tokenizer, response[-1], response, (size_t)e->response, bytes);
    if (status == GD_OK) status = gd_bytes_append(bytes, "", 1);
  }
  for (int64_t i = 0; i < it->count && status == GD_OK; i++) text[i] = bytes->bytes + begins[i];
  free(begins);
  return status;
}

static gd_status add_prediction(const task *t, const item *it, const char *const *references, gd_bytes *out) {
  const example *e = &t->examples[it->first];
  gd_bytes prompt = {0};
  gd_status status = gd_tokenizer_decode(t->g->model.tokenizer, -1, t->tokens.ids + e->first, (size_t)e->prompt, &prompt);
  if (status == GD_OK) status = gd_bytes_printf(out, "{\"index\":%lld,\"prompt\":", (long long)e->document);
  if (status == GD_OK) status = gd_json_quote(out, prompt.count ? prompt.bytes : "", prompt.count);
  gd_bytes_free(&prompt);
  GD_TRY(status);
  GD_TRY(gd_bytes_printf(out, ",\"text\":"));
  GD_TRY(gd_json_quote(out, it->text.bytes, it->text.count));
  GD_TRY(gd_bytes_printf(out, ",\"stopped_by\":\"%s\",\"references\":[", it->stopped_by));
  for (int64_t i = 0; i < it->count; i++) {
    if (i > 0) GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(gd_json_quote(out, references[i], strlen(references[i])));
  }
  return gd_bytes_append(out, "]}\n", 3);
}

/* Scores what is done; lines of it go to `predictions` where a file was asked for. */
static gd_status score(const task *t, gd_text_scores *scores, gd_bytes *predictions, int64_t *ended) {
  const char **references = malloc((size_t)t->count * sizeof *references);
  gd_bytes bytes = {0};
  gd_status status = references ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %lld references", (long long)t->count);
  for (int64_t i = 0; i < t->item_count && status == GD_OK; i++) {
    const item *it = &t->items[i];
    if (!it->stopped_by) continue;
    status = decode_references(t, it, &bytes, references);
    if (status == GD_OK) status = gd_text_scores_add(scores, it->text.bytes, references, (int32_t)it->count);
    if (status == GD_OK && t->options->predictions) status = add_prediction(t, it, references, predictions);
    *ended += strcmp(it->stopped_by, "end") == 0;
  }
  free(references);
  gd_bytes_free(&bytes);
  return status;
}

static gd_status print_scores(const task *t, const gd_text_scores *scores, int64_t ended, gd_bytes *out) {
  int64_t tokens = 0;
  for (int64_t i = 0; i < t->item_count; i++) tokens += t->items[i].tokens;
  double rate = t->seconds > 0 ? (double)tokens / t->seconds : 0;
  if (t->options->json) {
    GD_TRY(gd_bytes_printf(out, "{\"task\":\"generation\""));
    GD_TRY(gd_text_scores_json(scores, out));
    GD_TRY(gd_bytes_printf(out, ",\"ended\":%lld,\"tokens\":%lld,\"tokens_per_s\":%.1f}\n", (long long)ended, (long long)tokens,
                           rate));
  } else {
    GD_TRY(gd_text_scores_text(scores, out));
    GD_TRY(gd_bytes_printf(out, "%lld ended by themselves; %lld tokens (%.1f tokens/s)\n", (long long)ended, (long long)tokens,
                           rate));
  }
  fputs(out->bytes, stdout);
  return GD_OK;
}

static gd_status tell(const task *t, gd_text_scores *scores) {
  gd_bytes predictions = {0}, out = {0};
  int64_t ended = 0;
  gd_status status = score(t, scores, &predictions, &ended);
  if (status == GD_OK && t->options->predictions)
    status = gd_file_replace(t->options->predictions, predictions.bytes, predictions.count);
  if (status == GD_OK && scores->texts > 0) status = print_scores(t, scores, ended, &out);
  gd_bytes_free(&predictions);
  gd_bytes_free(&out);
  return status;
}

gd_status gd_eval_generation(gd_generate *g, const gd_eval_generation_options *options, int64_t *done, int64_t *prompts) {
  task t = {.g = g, .options = options};
  gd_text_scores scores;
  gd_session *session = g->model.session;
  gd_status status = gd_text_scores_open(&options->scores, GD_SCORE_BLEU | GD_SCORE_ROUGE | GD_SCORE_EXACT, &scores);
  if (status == GD_OK) status = open_split(&t);
  status = gd_session_agree(session, status);
  if (status == GD_OK) status = gd_dataset_check(session, &t.dataset, 1, GD_DATASET_CHECK_SECONDS);
  if (status == GD_OK) status = gd_session_agree(session, read_prompts(&t));
  if (status == GD_OK) status = write_texts(&t);
  *done = t.done;
  *prompts = t.item_count;
  if (status == GD_OK) status = gd_session_agree(session, g->first ? tell(&t, &scores) : GD_OK);
  if (t.dataset) gd_dataset_close(t.dataset);
  gd_batch_close(&t.batch);
  gd_ids_free(&t.tokens);
  for (int64_t group = 0; t.texts && group < g->batch; group++) gd_written_free(&t.texts[group]);
  for (int64_t i = 0; t.items && i < t.item_count; i++) gd_bytes_free(&t.items[i].text);
  free(t.examples);
  free(t.items);
  free(t.texts);
  free(t.writing);
  free(t.starts);
  return status;
}
