/* eval_texts.c - gptdist-eval --task bleu, rouge and exact: hypotheses against references. */
#include "launch/eval_texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/text_list.h"

typedef struct texts {
  const gd_eval_texts_options *options;
  gd_text_list hypotheses, references[GD_OPTION_MAX_TEXTS];
  int count;        /* files of references */
  const char **one; /* references of a text, [most] */
  int32_t most;
} texts;

static gd_status read_files(texts *t) {
  const gd_eval_texts_options *o = t->options;
  if (!o->hypotheses) return gd_fail_user(GD_USAGE, "--hypotheses: not given");
  if (o->references.count == 0) return gd_fail_user(GD_USAGE, "--references: not given");
  GD_TRY(gd_text_list_read(o->hypotheses, o->hypothesis_field, "--hypothesis-field", false, &t->hypotheses));
  for (int i = 0; i < o->references.count; i++) {
    gd_text_list *list = &t->references[t->count++];
    GD_TRY(gd_text_list_read(o->references.text[i], o->reference_field, "--reference-field", true, list));
    if (list->count != t->hypotheses.count)
      return gd_fail_user(GD_BAD_DATA, "%s has %lld texts, but %s has %lld", list->path, (long long)list->count,
                          t->hypotheses.path, (long long)t->hypotheses.count);
  }
  for (int64_t i = 0; i < t->hypotheses.count; i++) {
    int32_t here = 0;
    for (int f = 0; f < t->count; f++) here += gd_text_list_record(&t->references[f], i)->count;
    if (here > t->most) t->most = here;
  }
  t->one = malloc((size_t)t->most * sizeof *t->one);
  return t->one ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %d references", t->most);
}

static bool is_blank(const char *text) {
  return text[strspn(text, " \t\r\n")] == 0;
}

/* The references of text i into t->one. */
static gd_status references_of(texts *t, int64_t i, bool empty_ok, int32_t *count) {
  bool empty = true;
  *count = 0;
  for (int f = 0; f < t->count; f++)
    for (int32_t k = 0; k < gd_text_list_record(&t->references[f], i)->count; k++) {
      const char *text = gd_text_list_text(&t->references[f], i, k);
      empty = empty && is_blank(text);
      t->one[(*count)++] = text;
    }
  if (!empty || empty_ok) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%s:%lld: an empty reference", t->references[0].path,
                      (long long)gd_text_list_record(&t->references[0], i)->line);
}

static gd_status print_scores(const char *task, const gd_text_scores *scores, bool json, gd_bytes *out) {
  if (json) GD_TRY(gd_bytes_printf(out, "{\"task\":\"%s\"", task));
  GD_TRY(json ? gd_text_scores_json(scores, out) : gd_text_scores_text(scores, out));
  if (json) GD_TRY(gd_bytes_printf(out, "}\n"));
  fputs(out->bytes, stdout);
  return GD_OK;
}

static gd_status score(texts *t, const char *task, int which) {
  gd_text_scores scores;
  gd_bytes out = {0};
  GD_TRY(gd_text_scores_open(&t->options->scores, which, &scores));
  GD_TRY(read_files(t));
  for (int64_t i = 0; i < t->hypotheses.count; i++) {
    int32_t count;
    GD_TRY(references_of(t, i, which == GD_SCORE_EXACT, &count));
    GD_TRY(gd_text_scores_add(&scores, gd_text_list_text(&t->hypotheses, i, 0), t->one, count));
  }
  gd_status status = print_scores(task, &scores, t->options->json, &out);
  gd_bytes_free(&out);
  return status;
}

static int which_of(const char *task) {
  return strcmp(task, "bleu") == 0    ? GD_SCORE_BLEU
         : strcmp(task, "rouge") == 0 ? GD_SCORE_ROUGE
         : strcmp(task, "exact") == 0 ? GD_SCORE_EXACT
                                      : 0;
}

bool gd_eval_texts_has(const char *task) {
  return which_of(task) != 0;
}

gd_status gd_eval_texts(const char *task, const gd_eval_texts_options *options) {
  texts t = {.options = options};
  gd_status status = score(&t, task, which_of(task));
  gd_text_list_free(&t.hypotheses);
  for (int i = 0; i < t.count; i++) gd_text_list_free(&t.references[i]);
  free(t.one);
  return status;
}
