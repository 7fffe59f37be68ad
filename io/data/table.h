/* table.h - the records of some files in memory: what examples of a task are made of. All local. */
#ifndef GD_IO_DATA_TABLE_H
#define GD_IO_DATA_TABLE_H

#include "io/base/files.h"
#include "io/text/corpus.h"

/* All zeros is empty, but for columns. */
typedef struct gd_table {
  int32_t columns;
  int64_t count, capacity;
  gd_bytes text;     /* all values, one behind the other */
  size_t *ends;      /* [count][columns] in text */
  int64_t *line;     /* [count] */
  const char **path; /* [count] as messages name the file; the caller's */
  int32_t *split;    /* [count]; -1: left out */
  int64_t dropped;   /* records left out because a column was empty */
  int64_t bytes;     /* of all values */
} gd_table;

/* Appends the records of a file to split `split`. Faults as gd_corpus_next_record. */
GD_CHECKED gd_status gd_table_read(gd_table *table, const char *path, const gd_corpus_options *options, int32_t split);
void gd_table_free(gd_table *table);

gd_corpus_value gd_table_value(const gd_table *table, int64_t row, int32_t column);

/* Rows with equal keys get one number: *number of each row is the first of these rows. keys[count]. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_table_group(const gd_corpus_value *keys, int64_t count, int64_t *number);

/* Deals rows to splits 0, 1 and 2 by fractions whose sum is 1. Rows of one group stay together; the groups of a stratum (that
 * of a group's first row) are shuffled by the seed and go one by one to the split that lacks most, what a stratum leaves being
 * carried to the next. The first group of each stratum goes to split 0, so that training has seen every label. A pure function.
 * group and stratum as gd_table_group numbers them. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_table_deal(const int64_t *group, const int64_t *stratum, int64_t count, const double fractions[3],
                                   uint64_t seed, int32_t *split);

#endif
