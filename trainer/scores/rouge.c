/* rouge.c - words, pairs of words and the longest common subsequence that two texts share. */
#include "trainer/scores/rouge.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/scores/words.h"

const char *const gd_rouge_names[GD_ROUGES] = {"rouge1", "rouge2", "rougeL"};

/* What is no letter or digit of ASCII in lower case is white space. Two letters beyond ASCII have lower cases in it: the Kelvin
 * sign (k), and the I with a dot, an i and a mark. */
static gd_status lower_words(const char *text, gd_bytes *out) {
  for (const char *c = text; *c; c++) {
    char letter = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    if (strncmp(c, "\u212a", 3) == 0)
      letter = 'k', c += 2;
    else if (strncmp(c, "\u0130", 2) == 0)
      letter = 'i';
    else if (!(letter >= 'a' && letter <= 'z') && !(letter >= '0' && letter <= '9'))
      letter = ' ';
    GD_TRY(gd_bytes_append(out, &letter, 1));
  }
  return GD_OK;
}

static gd_status add_words(const gd_bleu_tokenizer *tokenizer, const char *text, gd_words *words) {
  gd_bytes tokens = {0};
  gd_status status = tokenizer ? gd_bleu_tokenize(*tokenizer, text, &tokens) : lower_words(text, &tokens);
  if (status == GD_OK) status = gd_words_add(words, tokens.bytes, tokens.count);
  gd_bytes_free(&tokens);
  return status;
}

static gd_rouge score_of(int64_t matches, int64_t given, int64_t wanted) {
  gd_rouge score = {0, 0, 0};
  if (given > 0) score.precision = (double)matches / (double)given;
  if (wanted > 0) score.recall = (double)matches / (double)wanted;
  if (matches > 0) score.f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
  return score;
}

static gd_status score_runs(const gd_words *words, int32_t reference, int order, gd_rouge *out) {
  int64_t given, wanted, matches;
  gd_words_of(words, 0, &given);
  gd_words_of(words, reference, &wanted);
  GD_TRY(gd_words_matches(words, 0, reference, reference + 1, order, &matches));
  *out = score_of(matches, given - order + 1, wanted - order + 1);
  return GD_OK;
}

/* One row of the table of lengths at a time. */
static gd_status score_subsequence(const gd_words *words, int32_t reference, gd_rouge *out) {
  int64_t given, wanted;
  const int32_t *a = gd_words_of(words, 0, &given), *b = gd_words_of(words, reference, &wanted);
  int64_t *row = calloc((size_t)wanted + 1, sizeof *row);
  if (!row) return gd_fail(GD_NO_MEMORY, "no memory for %lld words", (long long)wanted);
  for (int64_t i = 0; i < given; i++) {
    int64_t corner = 0; /* of the row before, one to the left */
    for (int64_t j = 1; j <= wanted; j++) {
      int64_t above = row[j];
      if (a[i] == b[j - 1])
        row[j] = corner + 1;
      else if (row[j - 1] > above)
        row[j] = row[j - 1];
      corner = above;
    }
  }
  *out = score_of(row[wanted], given, wanted);
  free(row);
  return GD_OK;
}

static gd_status score_words(const gd_words *words, gd_rouge out[GD_ROUGES]) {
  for (int32_t reference = 1; reference < words->texts; reference++) {
    gd_rouge scores[GD_ROUGES];
    GD_TRY(score_runs(words, reference, 1, &scores[GD_ROUGE_1]));
    GD_TRY(score_runs(words, reference, 2, &scores[GD_ROUGE_2]));
    GD_TRY(score_subsequence(words, reference, &scores[GD_ROUGE_L]));
    for (int i = 0; i < GD_ROUGES; i++)
      if (reference == 1 || scores[i].f1 > out[i].f1) out[i] = scores[i];
  }
  return GD_OK;
}

gd_status gd_rouge_score(const gd_bleu_tokenizer *tokenizer, const char *hypothesis, const char *const *references,
                         int32_t count, gd_rouge out[GD_ROUGES]) {
  gd_words words = {0};
  gd_status status = add_words(tokenizer, hypothesis, &words);
  for (int32_t i = 0; i < count && status == GD_OK; i++) status = add_words(tokenizer, references[i], &words);
  if (status == GD_OK) status = gd_words_number(&words);
  if (status == GD_OK) status = score_words(&words, out);
  gd_words_free(&words);
  return status;
}
