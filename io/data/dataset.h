/* dataset.h - the samples that training and validation read: windows of token shards, in an order that is a pure function.
 *
 * A dataset folder holds train/ and validation/, each with index.json and HDF5 shards, and tokenizer/ (docs/formats.md). The
 * shards of a split are one stream of N tokens in index order. Which window draw i holds depends on (seed, i), the weights and
 * the order only: nothing is stored, any draw is reached in O(sources), and no number of ranks or workers plays a part.
 *
 *   shuffled       window of T tokens (+ 1 for the last target), epoch-wise keyed permutation of the floor((N - 1) / T) windows
 *   sequential     the same windows in stream order, wrapping to the next epoch
 *   random_offset  a uniform start in [0, N - T - 1] for every draw
 *
 * Of a dataset for a task a draw is a row of T tokens that holds whole documents (rows.h): the rows of an epoch one behind the
 * other, then those of the next one, in an order of its own (shuffled) or again (sequential).
 */
#ifndef GD_IO_DATA_DATASET_H
#define GD_IO_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/session.h"
#include "io/data/batch.h"
#include "io/data/task.h"

typedef struct gd_dataset gd_dataset;

/* The training sources of a run file and their mixture, windows of `length` tokens. A path is a dataset folder (its train/) or
 * a split folder. All sources must have the same tokenizer, task and labels. pack: rows hold several documents of a task, else
 * one. Local. GD_USAGE for a path that is no dataset or holds fewer than length + 1 tokens, or a document of a task that is
 * longer than length; GD_BAD_DATA for damaged shards; GD_IO. */
GD_CHECKED gd_status gd_dataset_open(const gd_data_spec *data, int32_t length, gd_sample_order order, uint64_t seed, bool pack,
                                     gd_dataset **out);

/* The validation split: data->validation (a split folder, or a dataset folder whose validation/ is meant), else
 * path[0]/validation where that exists, else *out = NULL with GD_OK. In stream order, every target exactly once: windows =
 * ceil((N - 1) / T), the last one padded with weight 0, draws behind the end all weight 0. Of a task: its rows, in the order of
 * the documents. Local. */
GD_CHECKED gd_status gd_dataset_open_validation(const gd_data_spec *data, int32_t length, bool pack, gd_dataset **out);

/* The same reading of any split folder (gptdist-eval). */
GD_CHECKED gd_status gd_dataset_open_split(const char *folder, int32_t length, bool mask_documents, bool pack,
                                           gd_dataset **out);

/* Token shards against the digests of their index, before any is read. The ranks of a host share what is known from here on, so
 * that each shard is hashed once a host; for `seconds` they do so now, dealt among them, and all get the verdict (GD_BAD_DATA
 * naming the shard and both digests; GD_IO). A shard that was not reached is hashed before its first use, by whoever needs it
 * first: a fault is then that of a read. Entries may be NULL. Not while a dataset is read. Collective over the job. */
enum { GD_DATASET_CHECK_SECONDS = 3 };
GD_CHECKED gd_status gd_dataset_check(gd_session *session, gd_dataset *const *datasets, int32_t count, double seconds);

/* What these checks took so far on this host: shards of how many, bytes, seconds (of all ranks together). Zeros before
 * gd_dataset_check; shards may exceed `of` where files changed and were hashed again. */
typedef struct gd_dataset_checked {
  int64_t shards, of, bytes;
  double seconds;
} gd_dataset_checked;
void gd_dataset_get_checked(const gd_dataset *dataset, gd_dataset_checked *out);

void gd_dataset_close(gd_dataset *dataset);

int32_t gd_dataset_length(const gd_dataset *dataset); /* T */
/* Of batches of so many sequences that gd_dataset_read fills. */
gd_batch_shape gd_dataset_batch_shape(const gd_dataset *dataset, int32_t sequences);
/* Of a classification with one label a document: how many documents of all sources have each label, counts[label_count]. Reads
 * them all. Local. */
GD_CHECKED gd_status gd_dataset_label_counts(gd_dataset *dataset, int64_t *counts);
/* weights[label_count], copied: what a document of each label weighs; without it 1. Not while it is read. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_dataset_weigh_labels(gd_dataset *dataset, const float *weights);
int64_t gd_dataset_tokens(const gd_dataset *dataset); /* over all sources */
int64_t gd_dataset_documents(const gd_dataset *dataset);
int64_t gd_dataset_windows(
    const gd_dataset *dataset); /* of one epoch, over all sources; of a task the rows of the first epoch */
const gd_data_task *gd_dataset_task(const gd_dataset *dataset); /* of the first source */
int32_t gd_dataset_vocabulary(const gd_dataset *dataset);
const char *gd_dataset_tokenizer_folder(const gd_dataset *dataset); /* where gd_tokenizer_open finds it */
const char *gd_dataset_tokenizer(const gd_dataset *dataset);        /* its name */
const char *gd_dataset_tokenizer_digest(const gd_dataset *dataset); /* gd_tokenizer_digest of what made the tokens */
const char *gd_dataset_digest(const gd_dataset *dataset);           /* SHA-256 over the indexes and weights, hexadecimal */

/* Rows first_row .. first_row + count - 1 of `out` receive draws draw .. draw + count - 1; `out` has the dataset's shape,
 * or one without documents: then labels are left out.
 * Safe from several threads. GD_BAD_DATA naming file and position for a token beyond the vocabulary or a failed checksum. */
GD_CHECKED gd_status gd_dataset_read(gd_dataset *dataset, int64_t draw, int32_t count, gd_batch *out, int32_t first_row);

/* Where a draw comes from. `file` is the shard that holds the window's first token. */
typedef struct gd_dataset_place {
  int32_t source;
  int64_t epoch;  /* of that source */
  int64_t window; /* in the source's stream; -1 for random_offset; of a task the row of the epoch */
  int64_t token;  /* stream position of the window's first token */
  char file[GD_PATH_BYTES];
  int64_t file_token; /* position in that file */
} gd_dataset_place;
GD_CHECKED gd_status gd_dataset_where(gd_dataset *dataset, int64_t draw, gd_dataset_place *out);

/* A document of a task in a row. */
typedef struct gd_dataset_example {
  int32_t source;
  int64_t document;     /* of the source's split */
  int32_t first, count; /* its tokens in the row */
} gd_dataset_example;

/* Of a task: out[*count] are the documents of a draw's row from left to right, at most T; none behind the end of a validation
 * split. Safe from several threads. */
GD_CHECKED gd_status gd_dataset_examples(gd_dataset *dataset, int64_t draw, gd_dataset_example *out, int32_t *count);

/* labels[gd_data_task_columns] of one of them. */
GD_CHECKED gd_status gd_dataset_labels(gd_dataset *dataset, const gd_dataset_example *example, float *labels);

/* Reads the batches of coming steps on a thread of its own. Row r of step s is draw s * draws_per_step + offsets[r]
 * (offsets NULL: first_offset + r). The dataset must outlive it and may be read meanwhile. */
typedef struct gd_prefetch gd_prefetch;
typedef struct gd_prefetch_plan {
  int64_t start_step;
  int64_t draws_per_step; /* the global batch */
  int32_t count;          /* rows a step on this rank */
  int64_t first_offset;
  const int64_t *offsets; /* [count], copied; or NULL */
  int32_t depth;          /* batches read ahead, at least 1 */
} gd_prefetch_plan;
GD_CHECKED gd_status gd_prefetch_open(gd_dataset *dataset, const gd_prefetch_plan *plan, gd_prefetch **out);

/* The batch of the next step, copied into `out` (sequences == count). Waits for the reader; its fault is returned here. */
GD_CHECKED gd_status gd_prefetch_next(gd_prefetch *prefetch, gd_batch *out);
void gd_prefetch_close(gd_prefetch *prefetch);

#endif
