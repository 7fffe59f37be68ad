/* train.h - a byte-level BPE vocabulary of one's own: GPT-2's alphabet and splitting pattern, merges learned from
 * text (Sennrich et al. 2016). The pair that occurs most often is merged next; of equals the one with the smaller left id, then
 * the smaller right id, so the result depends on the text only. */
#ifndef GD_IO_TOKENIZER_TRAIN_H
#define GD_IO_TOKENIZER_TRAIN_H

#include "io/text/corpus.h"

typedef struct gd_tokenizer_train_options {
  const char *const *inputs;
  int32_t input_count;
  const char *output;
  int64_t vocabulary; /* 256 bytes, merges and <|endoftext|>, at least 258 */
  bool force;         /* write into a folder that has a tokenizer */
  gd_corpus_options corpus;
} gd_tokenizer_train_options;

typedef struct gd_tokenizer_train_report {
  int32_t vocabulary; /* smaller than asked for where no pair occurs twice any more */
  int64_t merges, words, bytes;
} gd_tokenizer_train_report;

/* Writes OUTPUT/vocab.json, merges.txt, gptdist-tokenizer.json, and tokenizer.json as Hugging Face has it. Local. GD_USAGE,
 * GD_BAD_DATA, GD_IO. */
GD_CHECKED gd_status gd_tokenizer_train(const gd_tokenizer_train_options *options, gd_tokenizer_train_report *report);

#endif
