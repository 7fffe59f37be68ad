/* text_scores.c - adds up BLEU, ROUGE and exact matches, and tells them as text or JSON. */
#include "launch/text_scores.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/scores/exact.h"

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

gd_status gd_text_scores_open(const gd_text_scores_options *options, int which, gd_text_scores *out) {
  int tokenizer = GD_BLEU_13A, smoothing = GD_BLEU_SMOOTH_EXP;
  if (options->tokenize)
    GD_TRY(choose("--tokenize", options->tokenize, gd_bleu_tokenizer_names, GD_BLEU_TOKENIZERS, &tokenizer));
  if (options->smooth) GD_TRY(choose("--smooth", options->smooth, gd_bleu_smoothing_names, GD_BLEU_SMOOTHINGS, &smoothing));
  if (!isnan(options->smooth_value) && smoothing != GD_BLEU_SMOOTH_FLOOR && smoothing != GD_BLEU_SMOOTH_ADD_K)
    return gd_fail_user(GD_USAGE, "--smooth-value: --smooth %s takes none; floor and add-k do",
                        gd_bleu_smoothing_names[smoothing]);
  *out = (gd_text_scores){.which = which, .rouge_tokenizes = options->tokenize != 0};
  out->bleu.tokenizer = (gd_bleu_tokenizer)tokenizer;
  out->bleu.smoothing = (gd_bleu_smoothing)smoothing;
  out->bleu.value = options->smooth_value;
  out->bleu.effective_order = options->effective_order;
  return GD_OK;
}

gd_status gd_text_scores_add(gd_text_scores *s, const char *text, const char *const *references, int32_t count) {
  s->texts++;
  if (s->which & GD_SCORE_BLEU) GD_TRY(gd_bleu_add(&s->bleu, text, references, count, &s->counts));
  if (s->which & GD_SCORE_ROUGE) {
    gd_rouge scores[GD_ROUGES];
    GD_TRY(gd_rouge_score(s->rouge_tokenizes ? &s->bleu.tokenizer : 0, text, references, count, scores));
    for (int i = 0; i < GD_ROUGES; i++) {
      s->sums[i].precision += scores[i].precision;
      s->sums[i].recall += scores[i].recall;
      s->sums[i].f1 += scores[i].f1;
    }
  }
  if (s->which & GD_SCORE_EXACT) {
    bool same_words, same_number;
    GD_TRY(gd_exact_match(text, references, count, &same_words, &same_number));
    s->same_words += same_words;
    s->same_number += same_number;
  }
  return GD_OK;
}

gd_status gd_text_scores_text(const gd_text_scores *s, gd_bytes *out) {
  double n = (double)s->texts;
  if (s->which & GD_SCORE_BLEU) {
    gd_bleu bleu;
    gd_bleu_score(&s->bleu, &s->counts, &bleu);
    GD_TRY(gd_bleu_line(&s->bleu, &s->counts, &bleu, out));
    GD_TRY(gd_bytes_append(out, "\n", 1));
  }
  for (int i = 0; i < GD_ROUGES && s->which & GD_SCORE_ROUGE; i++)
    GD_TRY(gd_bytes_printf(out, "%s  precision %.4f  recall %.4f  f1 %.4f\n", gd_rouge_names[i], s->sums[i].precision / n,
                           s->sums[i].recall / n, s->sums[i].f1 / n));
  if (s->which & GD_SCORE_EXACT)
    GD_TRY(gd_bytes_printf(out, "exact match %.4f  last number %.4f\n", (double)s->same_words / n, (double)s->same_number / n));
  return gd_bytes_printf(out, "of %lld texts\n", (long long)s->texts);
}

static gd_status add_orders(const char *name, const int64_t *values, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, ",\"%s\":[", name));
  for (int n = 0; n < GD_BLEU_ORDERS; n++) GD_TRY(gd_bytes_printf(out, "%s%lld", n ? "," : "", (long long)values[n]));
  return gd_bytes_append(out, "]", 1);
}

static gd_status add_bleu(const gd_text_scores *s, gd_bytes *out) {
  gd_bleu bleu;
  gd_bleu_score(&s->bleu, &s->counts, &bleu);
  GD_TRY(gd_bytes_printf(out, ",\"bleu\":%.9g,\"precisions\":[", bleu.score));
  for (int n = 0; n < GD_BLEU_ORDERS; n++) GD_TRY(gd_bytes_printf(out, "%s%.9g", n ? "," : "", bleu.precisions[n]));
  GD_TRY(gd_bytes_printf(out, "],\"brevity_penalty\":%.9g,\"hypothesis_length\":%lld,\"reference_length\":%lld",
                         bleu.brevity_penalty, (long long)s->counts.length, (long long)s->counts.reference_length));
  GD_TRY(add_orders("correct", s->counts.correct, out));
  GD_TRY(add_orders("total", s->counts.total, out));
  GD_TRY(gd_bytes_printf(out, ",\"signature\":\""));
  GD_TRY(gd_bleu_signature(&s->bleu, &s->counts, out));
  return gd_bytes_append(out, "\"", 1);
}

gd_status gd_text_scores_json(const gd_text_scores *s, gd_bytes *out) {
  double n = (double)s->texts;
  if (s->which & GD_SCORE_BLEU) GD_TRY(add_bleu(s, out));
  for (int i = 0; i < GD_ROUGES && s->which & GD_SCORE_ROUGE; i++)
    GD_TRY(gd_bytes_printf(out, ",\"%s\":{\"precision\":%.9g,\"recall\":%.9g,\"f1\":%.9g}", gd_rouge_names[i],
                           s->sums[i].precision / n, s->sums[i].recall / n, s->sums[i].f1 / n));
  if (s->which & GD_SCORE_EXACT)
    GD_TRY(gd_bytes_printf(out, ",\"exact_match\":%.9g,\"last_number\":%.9g", (double)s->same_words / n,
                           (double)s->same_number / n));
  return gd_bytes_printf(out, ",\"texts\":%lld", (long long)s->texts);
}
