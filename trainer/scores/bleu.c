/* bleu.c - matches of runs of words, added up over texts, and the score that they give. */
#include "trainer/scores/bleu.h"

#include <math.h>
#include <stdlib.h>

#include "trainer/scores/words.h"

const char *const gd_bleu_tokenizer_names[GD_BLEU_TOKENIZERS] = {"none", "13a", "zh", "char"};
const char *const gd_bleu_smoothing_names[GD_BLEU_SMOOTHINGS] = {"none", "floor", "add-k", "exp"};

static double smoothing_value(const gd_bleu_options *options) {
  if (!isnan(options->value)) return options->value;
  return options->smoothing == GD_BLEU_SMOOTH_FLOOR ? 0.1 : 1;
}

static gd_status add_text(const gd_bleu_options *options, const char *text, gd_words *words) {
  gd_bytes tokens = {0};
  gd_status status = gd_bleu_tokenize(options->tokenizer, text, &tokens);
  if (status == GD_OK) status = gd_words_add(words, tokens.bytes, tokens.count);
  gd_bytes_free(&tokens);
  return status;
}

static gd_status count_matches(const gd_words *words, gd_bleu_counts *counts) {
  int64_t length, nearest = -1;
  gd_words_of(words, 0, &length);
  for (int32_t text = 1; text < words->texts; text++) {
    int64_t other;
    gd_words_of(words, text, &other);
    int64_t distance = llabs(other - length), best = llabs(nearest - length);
    if (nearest < 0 || distance < best || (distance == best && other < nearest)) nearest = other;
  }
  counts->length += length;
  counts->reference_length += nearest;
  for (int order = 1; order <= GD_BLEU_ORDERS; order++) {
    int64_t matches;
    GD_TRY(gd_words_matches(words, 0, 1, words->texts, order, &matches));
    counts->correct[order - 1] += matches;
    counts->total[order - 1] += length >= order ? length - order + 1 : 0;
  }
  return GD_OK;
}

gd_status gd_bleu_add(const gd_bleu_options *options, const char *hypothesis, const char *const *references, int32_t count,
                      gd_bleu_counts *counts) {
  gd_words words = {0};
  gd_status status = add_text(options, hypothesis, &words);
  for (int32_t i = 0; i < count && status == GD_OK; i++) status = add_text(options, references[i], &words);
  if (status == GD_OK) status = gd_words_number(&words);
  if (status == GD_OK) status = count_matches(&words, counts);
  counts->references = counts->references == 0 || counts->references == count ? count : -1;
  gd_words_free(&words);
  return status;
}

void gd_bleu_score(const gd_bleu_options *options, const gd_bleu_counts *counts, gd_bleu *out) {
  double value = smoothing_value(options), logs = 0, halves = 1;
  int orders = GD_BLEU_ORDERS;
  bool any = false;
  *out = (gd_bleu){.brevity_penalty = 1};
  if (counts->length < counts->reference_length)
    out->brevity_penalty = counts->length ? exp(1 - (double)counts->reference_length / (double)counts->length) : 0;
  for (int n = 0; n < GD_BLEU_ORDERS; n++) any = any || counts->correct[n] > 0;
  if (!any) return;
  for (int n = 0; n < GD_BLEU_ORDERS; n++) {
    double more = options->smoothing == GD_BLEU_SMOOTH_ADD_K && n > 0 ? value : 0;
    double correct = (double)counts->correct[n] + more, total = (double)counts->total[n] + more;
    if (total == 0) break;
    if (options->effective_order) orders = n + 1;
    if (correct > 0)
      out->precisions[n] = 100 * correct / total;
    else if (options->smoothing == GD_BLEU_SMOOTH_EXP)
      out->precisions[n] = 100 / ((halves *= 2) * total);
    else if (options->smoothing == GD_BLEU_SMOOTH_FLOOR)
      out->precisions[n] = 100 * value / total;
  }
  for (int n = 0; n < orders; n++) logs += out->precisions[n] > 0 ? log(out->precisions[n]) : -9999999999;
  out->score = out->brevity_penalty * exp(logs / orders);
}

gd_status gd_bleu_signature(const gd_bleu_options *options, const gd_bleu_counts *counts, gd_bytes *out) {
  bool valued = options->smoothing == GD_BLEU_SMOOTH_FLOOR || options->smoothing == GD_BLEU_SMOOTH_ADD_K;
  if (counts->references < 0)
    GD_TRY(gd_bytes_printf(out, "nrefs:var"));
  else
    GD_TRY(gd_bytes_printf(out, "nrefs:%d", counts->references));
  GD_TRY(gd_bytes_printf(out, "|case:mixed|eff:%s|tok:%s|smooth:%s", options->effective_order ? "yes" : "no",
                         gd_bleu_tokenizer_names[options->tokenizer], gd_bleu_smoothing_names[options->smoothing]));
  if (valued) GD_TRY(gd_bytes_printf(out, "[%.2f]", smoothing_value(options)));
  return gd_bytes_printf(out, "|version:gptdist-%s", GPTDIST_VERSION);
}

gd_status gd_bleu_line(const gd_bleu_options *options, const gd_bleu_counts *counts, const gd_bleu *bleu, gd_bytes *out) {
  double ratio = counts->reference_length ? (double)counts->length / (double)counts->reference_length : 0;
  GD_TRY(gd_bytes_printf(out, "BLEU|"));
  GD_TRY(gd_bleu_signature(options, counts, out));
  GD_TRY(gd_bytes_printf(out, " = %.2f ", bleu->score));
  for (int n = 0; n < GD_BLEU_ORDERS; n++) GD_TRY(gd_bytes_printf(out, "%s%.1f", n ? "/" : "", bleu->precisions[n]));
  return gd_bytes_printf(out, " (BP = %.3f ratio = %.3f hyp_len = %lld ref_len = %lld)", bleu->brevity_penalty, ratio,
                         (long long)counts->length, (long long)counts->reference_length);
}
