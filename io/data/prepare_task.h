/* prepare_task.h - what the tasks of prepare share: the rows at hand, and the part of each task. Local, rank 0 alone. */
#ifndef GD_IO_DATA_PREPARE_TASK_H
#define GD_IO_DATA_PREPARE_TASK_H

#include "io/data/examples.h"
#include "io/data/table.h"

typedef struct gd_prepare_rows {
  gd_prepare *prepare;
  const gd_prepare_task *task;
  gd_prepare_report *report;
  gd_table table;
  int64_t *group, *stratum; /* [count] rows of the same text, and of the same labels, as gd_table_group numbers them */
  gd_corpus_value *keys;    /* [count] */
  float *labels;            /* [count][columns] */
  gd_data_task made;
  gd_examples examples;
} gd_prepare_rows;

/* The label map, and every row's labels. GD_BAD_DATA: one label alone, a label that training lacks, no number from 0 to 1;
 * GD_USAGE: known labels of the other kind, or without a column. */
GD_CHECKED gd_status gd_prepare_labels(gd_prepare_rows *rows);
/* After the splits are known: how many documents have each label. GD_BAD_DATA: none of those for training has it; of a known
 * one that is a warning. */
GD_CHECKED gd_status gd_prepare_count_labels(gd_prepare_rows *rows);

/* Which split each row belongs to, where files do not say: by group and stratum. A text that stands in two of them belongs to
 * the later one, or as task->repeated says. GD_BAD_DATA: it is refused, or no row is left for training or validation. */
GD_CHECKED gd_status gd_prepare_deal(gd_prepare_rows *rows);

/* The examples of sft. GD_USAGE: a template that the tokenizer has no tokens for; GD_BAD_DATA: turns that are none, an empty
 * one, none to learn from, too long a talk where it is refused. */
GD_CHECKED gd_status gd_prepare_talks(gd_prepare_rows *rows);

#endif
