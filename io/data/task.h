/* task.h - what the documents of a dataset are for: its task, label map and template, as index.json carries them
 * (docs/formats.md). All local. */
#ifndef GD_IO_DATA_TASK_H
#define GD_IO_DATA_TASK_H

#include "io/base/json.h"

typedef enum gd_data_task_kind {
  GD_TASK_LM,             /* plain text, a stream of tokens */
  GD_TASK_CLASSIFICATION, /* a document is a text with labels */
  GD_TASK_SFT             /* a document is a prompt and its response, or several */
} gd_data_task_kind;

enum { GD_TASK_LABELS = 65536 };

/* All zeros: plain text. */
typedef struct gd_data_task {
  gd_data_task_kind kind;
  bool multiple;       /* classification: any number of labels a document, not one */
  int32_t label_count; /* classification: at least 2, or 1 where multiple */
  char **labels;       /* [label_count] UTF-8, all different */
  char *layout;        /* sft: the template as JSON text; else NULL */
  int32_t max_tokens;  /* classification: longer texts were cut; 0: none were, or that is not known */
  bool cut_head;       /* by their heads, not by their tails */
  int32_t longest;     /* tokens of the longest document of the split */
} gd_data_task;

const char *gd_data_task_name(gd_data_task_kind kind); /* "lm", "classification", "sft" */

/* Columns of float32 that a document has in a shard. */
int32_t gd_data_task_columns(const gd_data_task *task);

/* Whether two splits may be used together: all but `longest` and how long texts were cut is equal. */
bool gd_data_task_equal(const gd_data_task *a, const gd_data_task *b);

/* The number of a label, -1: there is none of that name. */
int32_t gd_data_task_find_label(const gd_data_task *task, const char *label);

/* places[to->label_count]: which label of `from` each of `to` is, counted from 1; 0: none. */
void gd_data_task_match(const gd_data_task *from, const gd_data_task *to, int64_t *places);

/* Writes the names of labels first .. end - 1 of which no document has one (counts[label_count]), in quotes, the first few and
 * how many more. Returns how many they are. */
enum { GD_TASK_NAMES_BYTES = 512 };
int32_t gd_data_task_unseen(const gd_data_task *task, const int64_t *counts, int32_t first, int32_t end,
                            char out[GD_TASK_NAMES_BYTES]);

/* Appends the members of a JSON object, each with a comma and a line end before it; nothing for plain text. */
GD_CHECKED gd_status gd_data_task_write(const gd_data_task *task, gd_bytes *out);

/* Reads them from the index `path`; GD_BAD_DATA naming it. gd_data_task_free in any case. */
GD_CHECKED gd_status gd_data_task_read(const gd_json *index, const char *path, gd_data_task *out);
GD_CHECKED gd_status gd_data_task_copy(const gd_data_task *task, gd_data_task *out);
void gd_data_task_free(gd_data_task *task);

#endif
