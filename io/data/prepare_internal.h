/* prepare_internal.h - what the two halves of prepare share: encoding units to files, and making shards of them. */
#ifndef GD_IO_DATA_PREPARE_INTERNAL_H
#define GD_IO_DATA_PREPARE_INTERNAL_H

#include "io/data/prepare.h"
#include "io/data/split.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/spec.h"

/* A unit after encoding. Its ids (int32) and the ends of its documents (int64, in ids) lie in two files of the work folder. */
typedef struct gd_prepare_unit {
  int64_t tokens, documents, bytes, dropped;
} gd_prepare_unit;

typedef struct gd_prepare {
  gd_session *session;
  const gd_prepare_options *options;
  gd_corpus_options corpus;
  int32_t rank, ranks;
  char work[GD_PATH_BYTES]; /* OUTPUT.tmp-<id> */
  gd_tokenizer *tokenizer;
  gd_corpus_unit *plan;
  gd_prepare_unit *units; /* [unit_count], complete on every rank after the exchange */
  int64_t unit_count;
  int64_t tokens, documents; /* of all units */
  gd_prepare_progress progress;
  int64_t input_done; /* bytes of this rank's units that are encoded */
} gd_prepare;

GD_CHECKED gd_status gd_prepare_unit_path(const gd_prepare *prepare, int64_t unit, const char *kind, char out[GD_PATH_BYTES]);

/* Sums an array of int64 over the ranks, in place. Collective over the job. */
GD_CHECKED gd_status gd_prepare_sum(const gd_prepare *prepare, int64_t *values, int64_t count);

/* Of a shard of this dataset, without counts; the most tokens that it holds. */
gd_token_shard_info gd_prepare_info(const gd_prepare *prepare);
int64_t gd_prepare_shard_tokens(const gd_prepare *prepare);

/* The tokens of options->add_specials, once the tokenizer is there. GD_USAGE. */
GD_CHECKED gd_status gd_prepare_add_specials(gd_prepare *prepare);

/* The column of a role, -1: there is none. */
int32_t gd_prepare_column(const gd_prepare *prepare, gd_column_role role);

/* Tells who asked: `done` of this rank's share. */
void gd_prepare_tell(const gd_prepare *prepare, int64_t done);

/* Both splits: shards and indexes in the work folder; the unit files stay. Collective over the job. */
GD_CHECKED gd_status gd_prepare_write_splits(gd_prepare *prepare, gd_prepare_report *report);

#endif
