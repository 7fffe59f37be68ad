/* examples.h - the examples of a task, encoded, and their way into the shards of a dataset. */
#ifndef GD_IO_DATA_EXAMPLES_H
#define GD_IO_DATA_EXAMPLES_H

#include "io/data/prepare_internal.h"
#include "io/data/task.h"

/* All zeros is empty. Host memory of one rank. */
typedef struct gd_examples {
  int64_t count, capacity;
  gd_ids ids;       /* of all examples, one behind the other */
  gd_bytes targets; /* a byte an id: 1 where it is a target */
  int64_t *ends;    /* [count] in ids */
  int32_t *split;   /* [count] 0 train, 1 validation, 2 test */
  float *labels;    /* [count][columns] */
  int32_t columns;
} gd_examples;

/* Closes an example: ids and targets (which may be fewer: the rest is 0) were appended. labels[columns]. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_examples_end(gd_examples *examples, int32_t split, const float *labels);
void gd_examples_free(gd_examples *examples);

/* All splits that have examples, to shards and indexes in the work folder, an example in one shard; task->longest is of each
 * split. Fills tokens, documents and shards of the report. GD_BAD_DATA: no example for training. Local. */
GD_CHECKED gd_status gd_examples_write(const gd_prepare *prepare, const gd_examples *examples, const gd_data_task *task,
                                       gd_prepare_report *report);

/* A task's part of gd_dataset_prepare: from the files to the work folder. Rank 0's work, the others wait. */
GD_CHECKED gd_status gd_prepare_examples(gd_prepare *prepare, gd_prepare_report *report);

#endif
