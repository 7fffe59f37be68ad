/* bleu.h - BLEU (Papineni et al. 2002) with the tokenizers, smoothing and signature of sacreBLEU (Post 2018), and its numbers:
 * counts that can be added up over texts, and the score that follows from them. All local, on the host. */
#ifndef GD_TRAINER_SCORES_BLEU_H
#define GD_TRAINER_SCORES_BLEU_H

#include "io/base/files.h"

enum { GD_BLEU_ORDERS = 4 };

typedef enum gd_bleu_tokenizer {
  GD_BLEU_NONE, /* words as they stand between white space */
  GD_BLEU_13A,  /* mteval-v13a: punctuation apart, but not in numbers */
  GD_BLEU_ZH,   /* Chinese characters one by one, the rest as 13a */
  GD_BLEU_CHAR, /* characters */
  GD_BLEU_TOKENIZERS
} gd_bleu_tokenizer;

/* What stands for a precision of 0 (Chen and Cherry 2014). */
typedef enum gd_bleu_smoothing {
  GD_BLEU_SMOOTH_NONE,
  GD_BLEU_SMOOTH_FLOOR, /* value in place of 0 matches */
  GD_BLEU_SMOOTH_ADD_K, /* value more matches and runs, from order 2 on */
  GD_BLEU_SMOOTH_EXP,   /* 1/2, 1/4, ... matches (NIST) */
  GD_BLEU_SMOOTHINGS
} gd_bleu_smoothing;

extern const char *const gd_bleu_tokenizer_names[GD_BLEU_TOKENIZERS]; /* "none", "13a", "zh", "char" */
extern const char *const gd_bleu_smoothing_names[GD_BLEU_SMOOTHINGS]; /* "none", "floor", "add-k", "exp" */

typedef struct gd_bleu_options {
  gd_bleu_tokenizer tokenizer;
  gd_bleu_smoothing smoothing;
  double value;         /* of floor and add-k; NaN: 0.1 and 1 */
  bool effective_order; /* orders without a run are left out: for texts that are shorter */
} gd_bleu_options;

/* All zeros: of no text. */
typedef struct gd_bleu_counts {
  int64_t length, reference_length;                       /* words; of references the nearest one of each text */
  int64_t correct[GD_BLEU_ORDERS], total[GD_BLEU_ORDERS]; /* runs of 1 to 4 words */
  int32_t references;                                     /* a text; -1: not the same for all */
} gd_bleu_counts;

typedef struct gd_bleu {
  double score;                      /* 0 to 100 */
  double precisions[GD_BLEU_ORDERS]; /* 0 to 100 */
  double brevity_penalty;
} gd_bleu;

/* Adds a text and its references[count], count >= 1. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_bleu_add(const gd_bleu_options *options, const char *hypothesis, const char *const *references,
                                 int32_t count, gd_bleu_counts *counts);
void gd_bleu_score(const gd_bleu_options *options, const gd_bleu_counts *counts, gd_bleu *out);

/* Appends "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:gptdist-0.1.0": sacreBLEU's but for the version. */
GD_CHECKED gd_status gd_bleu_signature(const gd_bleu_options *options, const gd_bleu_counts *counts, gd_bytes *out);

/* Appends "BLEU|SIGNATURE = 48.53 82.4/50.0/45.5/37.5 (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)". */
GD_CHECKED gd_status gd_bleu_line(const gd_bleu_options *options, const gd_bleu_counts *counts, const gd_bleu *bleu,
                                  gd_bytes *out);

/* Appends the text with white space between its tokens. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_bleu_tokenize(gd_bleu_tokenizer tokenizer, const char *text, gd_bytes *out);

#endif
