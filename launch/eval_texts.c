/* eval_texts.c - gptdist-eval --task bleu, rouge and exact: hypotheses against references. */
#include "launch/eval_texts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/text_list.h"
#include "trainer/scores/bleu.h"
#include "trainer/scores/exact.h"
#include "trainer/scores/rouge.h"
#include "trainer/scores/words.h"

typedef struct texts {
  const gd_eval_texts_options *options;
  gd_text_list hypotheses, references[GD_OPTION_MAX_TEXTS];
  int count; /* files of references */
  gd_bleu_options bleu;
  const char **one; /* references of a text, [most] */
  int32_t most;
} texts;

/* ---- reading ---- */

static gd_status choose(const char *option, const char *found, const char *const *names, int count, int *out) {
  char list[128];
  int used = 0;
  for (int i = 0; i < count; i++) {
    if (strcmp(found, names[i]) == 0) {
      *out = i;
      return GD_OK;
    }
    used += snprintf(list + used, sizeof list - (size_t)used, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ", names[i]);
  }
  return gd_fail_user(GD_USAGE, "%s: found \"%.60s\", expected %s", option, found, list);
}

static gd_status read_options(texts *t) {
  const gd_eval_texts_options *o = t->options;
  int tokenizer = GD_BLEU_13A, smoothing = GD_BLEU_SMOOTH_EXP;
  if (!o->hypotheses) return gd_fail_user(GD_USAGE, "--hypotheses: not given");
  if (o->references.count == 0) return gd_fail_user(GD_USAGE, "--references: not given");
  if (o->tokenize) GD_TRY(choose("--tokenize", o->tokenize, gd_bleu_tokenizer_names, GD_BLEU_TOKENIZERS, &tokenizer));
  if (o->smooth) GD_TRY(choose("--smooth", o->smooth, gd_bleu_smoothing_names, GD_BLEU_SMOOTHINGS, &smoothing));
  if (!isnan(o->smooth_value) && smoothing != GD_BLEU_SMOOTH_FLOOR && smoothing != GD_BLEU_SMOOTH_ADD_K)
    return gd_fail_user(GD_USAGE, "--smooth-value: --smooth %s takes none; floor and add-k do",
                        gd_bleu_smoothing_names[smoothing]);
  t->bleu = (gd_bleu_options){(gd_bleu_tokenizer)tokenizer, (gd_bleu_smoothing)smoothing, o->smooth_value, o->effective_order};
  return GD_OK;
}

static gd_status read_files(texts *t) {
  const gd_eval_texts_options *o = t->options;
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

/* ---- tasks ---- */

static void print_list(const char *name, const int64_t *values) {
  printf(",\"%s\":[", name);
  for (int n = 0; n < GD_BLEU_ORDERS; n++) printf("%s%lld", n ? "," : "", (long long)values[n]);
  putchar(']');
}

static gd_status print_bleu(const texts *t, const gd_bleu_counts *counts, gd_bytes *text) {
  gd_bleu bleu;
  gd_bleu_score(&t->bleu, counts, &bleu);
  if (!t->options->json) {
    GD_TRY(gd_bleu_line(&t->bleu, counts, &bleu, text));
    puts(text->bytes);
    return GD_OK;
  }
  GD_TRY(gd_bleu_signature(&t->bleu, counts, text));
  printf("{\"task\":\"bleu\",\"score\":%.9g,\"precisions\":[", bleu.score);
  for (int n = 0; n < GD_BLEU_ORDERS; n++) printf("%s%.9g", n ? "," : "", bleu.precisions[n]);
  printf("],\"brevity_penalty\":%.9g,\"hypothesis_length\":%lld,\"reference_length\":%lld", bleu.brevity_penalty,
         (long long)counts->length, (long long)counts->reference_length);
  print_list("correct", counts->correct);
  print_list("total", counts->total);
  printf(",\"texts\":%lld,\"signature\":\"%s\"}\n", (long long)t->hypotheses.count, text->bytes);
  return GD_OK;
}

static gd_status score_bleu(texts *t) {
  gd_bleu_counts counts = {0};
  gd_bytes text = {0};
  for (int64_t i = 0; i < t->hypotheses.count; i++) {
    int32_t count;
    GD_TRY(references_of(t, i, false, &count));
    GD_TRY(gd_bleu_add(&t->bleu, gd_text_list_text(&t->hypotheses, i, 0), t->one, count, &counts));
  }
  gd_status status = print_bleu(t, &counts, &text);
  gd_bytes_free(&text);
  return status;
}

static gd_status score_rouge(texts *t) {
  gd_rouge sums[GD_ROUGES] = {{0, 0, 0}}, scores[GD_ROUGES];
  double n = (double)t->hypotheses.count;
  for (int64_t i = 0; i < t->hypotheses.count; i++) {
    int32_t count;
    GD_TRY(references_of(t, i, false, &count));
    GD_TRY(gd_rouge_score(t->options->tokenize ? &t->bleu.tokenizer : 0, gd_text_list_text(&t->hypotheses, i, 0), t->one, count,
                          scores));
    for (int s = 0; s < GD_ROUGES; s++) {
      sums[s].precision += scores[s].precision;
      sums[s].recall += scores[s].recall;
      sums[s].f1 += scores[s].f1;
    }
  }
  if (t->options->json) printf("{\"task\":\"rouge\"");
  for (int s = 0; s < GD_ROUGES; s++)
    printf(t->options->json ? ",\"%s\":{\"precision\":%.9g,\"recall\":%.9g,\"f1\":%.9g}"
                            : "%s  precision %.4f  recall %.4f  f1 %.4f\n",
           gd_rouge_names[s], sums[s].precision / n, sums[s].recall / n, sums[s].f1 / n);
  printf(t->options->json ? ",\"texts\":%lld}\n" : "mean of %lld texts\n", (long long)t->hypotheses.count);
  return GD_OK;
}

static gd_status score_exact(texts *t) {
  int64_t words = 0, numbers = 0;
  double n = (double)t->hypotheses.count;
  for (int64_t i = 0; i < t->hypotheses.count; i++) {
    int32_t count;
    bool same_words, same_number;
    GD_TRY(references_of(t, i, true, &count));
    GD_TRY(gd_exact_match(gd_text_list_text(&t->hypotheses, i, 0), t->one, count, &same_words, &same_number));
    words += same_words;
    numbers += same_number;
  }
  printf(t->options->json ? "{\"task\":\"exact\",\"exact_match\":%.9g,\"last_number\":%.9g,\"texts\":%lld}\n"
                          : "exact match %.4f  last number %.4f  over %lld texts\n",
         (double)words / n, (double)numbers / n, (long long)t->hypotheses.count);
  return GD_OK;
}

static const struct {
  const char *name;
  gd_status (*score)(texts *t);
} tasks[] = {{"bleu", score_bleu}, {"rouge", score_rouge}, {"exact", score_exact}};
enum { TASKS = sizeof tasks / sizeof *tasks };

bool gd_eval_texts_has(const char *task) {
  for (int i = 0; i < TASKS; i++)
    if (strcmp(task, tasks[i].name) == 0) return true;
  return false;
}

gd_status gd_eval_texts(const char *task, const gd_eval_texts_options *options) {
  texts t = {.options = options};
  gd_status status = read_options(&t);
  if (status == GD_OK) status = read_files(&t);
  for (int i = 0; i < TASKS && status == GD_OK; i++)
    if (strcmp(task, tasks[i].name) == 0) status = tasks[i].score(&t);
  gd_text_list_free(&t.hypotheses);
  for (int i = 0; i < t.count; i++) gd_text_list_free(&t.references[i]);
  free(t.one);
  return status;
}
