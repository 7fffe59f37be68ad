/* prepare.h - text files to a dataset folder: OUTPUT/train, OUTPUT/validation, OUTPUT/tokenizer.
 *
 * The ranks of a job share the work; the folder is the same, byte for byte, whatever their number. Work goes through a folder
 * OUTPUT.tmp-<id> beside the output (it holds the ids twice for a while) that is renamed at the end. */
#ifndef GD_IO_DATA_PREPARE_H
#define GD_IO_DATA_PREPARE_H

#include "comm/session.h"
#include "io/text/corpus.h"

/* How far this rank is: bytes of its share of the input files (as they lie on the disk) and of the whole, then tokens written.
 * total 0: not known, standard input or a pipe. Called often: the receiver chooses when to speak. */
typedef struct gd_prepare_progress {
  const char *phase; /* "encode", "write" */
  int64_t done, mine, total;
} gd_prepare_progress;

typedef struct gd_prepare_options {
  const char *const *inputs;
  int32_t input_count;
  const char *tokenizer; /* SPEC; "chars" is built from the inputs */
  const char *output;
  double validation_fraction; /* of the documents, or the tail of a single document; in [0, 1) */
  int64_t shard_tokens;       /* 0: 100 million */
  bool force;                 /* replaces an existing OUTPUT */
  gd_corpus_options corpus;   /* cut is set by the tokenizer */
  void (*progress)(void *context, const gd_prepare_progress *progress); /* NULL: nobody asks */
  void *progress_context;
} gd_prepare_options;

typedef struct gd_prepare_report {
  int64_t bytes;                   /* of text */
  int64_t tokens[2], documents[2]; /* train, validation; a document cut in two counts in both */
  int32_t shards[2];
  int32_t vocabulary;
  int64_t dropped_empty; /* records left out because a column was empty */
} gd_prepare_report;

/* Collective over the job. The same status on every rank: GD_USAGE (output exists, no such input), GD_BAD_DATA (input, no text
 * at all), GD_IO (disk full: nothing is published, an existing OUTPUT stays). `report` is filled on every rank. */
GD_CHECKED gd_status gd_dataset_prepare(gd_session *session, const gd_prepare_options *options, gd_prepare_report *report);

#endif
