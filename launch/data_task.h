/* data_task.h - the options of gptdist-data prepare that make examples of a task, and what is told of them. Local. */
#ifndef GD_LAUNCH_DATA_TASK_H
#define GD_LAUNCH_DATA_TASK_H

#include "io/data/prepare.h"
#include "io/text/inputs.h"
#include "launch/options.h"

/* As they stand on the line. */
typedef struct gd_task_options {
  const char *task, *columns, *labels, *split, *cut, *layout, *loss, *too_long, *repeated;
  gd_option_texts held[2]; /* --validation, --test */
  int64_t seed, max_tokens;
} gd_task_options;

/* Rows of an option table. */
#define GD_DATA_TASK_OPTIONS(in)                                                                                                \
  {"--task", GD_OPTION_TEXT, &(in).task, "TASK", "lm (plain text), classification, sft", 0, 0},                                 \
      {"--columns",                                                                                                             \
       GD_OPTION_TEXT,                                                                                                          \
       &(in).columns,                                                                                                           \
       "ROLE=COLUMN,...",                                                                                                       \
       "what the columns are, by name or number; see below",                                                                    \
       0,                                                                                                                       \
       0},                                                                                                                      \
      {"--labels", GD_OPTION_TEXT, &(in).labels, "DIR", "classification: take over the labels of a dataset, run or model", 0,   \
       0},                                                                                                                      \
      {"--split", GD_OPTION_TEXT, &(in).split, "F,F[,F]", "parts of the rows for train, validation, test; by label", 0, 0},     \
      {"--validation", GD_OPTION_TEXTS, &(in).held[0], "FILE", "rows for validation, in place of --split", 0, 0},               \
      {"--test", GD_OPTION_TEXTS, &(in).held[1], "FILE", "rows for the test; --split F,F then parts the others", 0, 0},         \
      {"--repeated", GD_OPTION_TEXT, &(in).repeated, "drop|keep|refuse", "rows whose text a later FILE has, too (drop)", 0, 0}, \
      {"--seed", GD_OPTION_INTEGER, &(in).seed, "N", "of --split (0)", 0, 9e15},                                                \
      {"--max-tokens", GD_OPTION_INTEGER, &(in).max_tokens, "N", "of an example (no limit)", 1, 1e9},                           \
      {"--template",                                                                                                            \
       GD_OPTION_TEXT,                                                                                                          \
       &(in).layout,                                                                                                            \
       "NAME|FILE",                                                                                                             \
       "sft: plain, alpaca, chatml, llama3, a table (what --tokenizer brings, else alpaca)",                                    \
       0,                                                                                                                       \
       0},                                                                                                                      \
      {"--loss", GD_OPTION_TEXT, &(in).loss, "responses|all", "sft: on responses and their end tokens, or all", 0, 0},          \
      {"--long", GD_OPTION_TEXT, &(in).too_long, "drop|cut|refuse", "sft: talks beyond --max-tokens (drop)", 0, 0}, {           \
    "--cut", GD_OPTION_TEXT, &(in).cut, "tail|head", "classification: the end of a text that goes (tail)", 0, 0                 \
  }

/* What they mean, in the memory that task and corpus point into. */
typedef struct gd_task_words {
  char *text; /* the words of --columns, cut apart */
  gd_corpus_column columns[GD_CORPUS_COLUMNS];
  gd_column_role roles[GD_CORPUS_COLUMNS];
  gd_template layout;
  gd_data_task known; /* of --labels */
  gd_inputs held[2];
} gd_task_words;

/* Fills options->task and the columns of options->corpus. GD_USAGE. gd_task_words_free in any case. */
GD_CHECKED gd_status gd_data_read_task(const gd_task_options *in, gd_task_words *out, gd_prepare_options *options);
void gd_task_words_free(gd_task_words *task);

/* Appends what a report says of a task: members of a JSON object, each after a comma, or lines. */
GD_CHECKED gd_status gd_data_tell_task(const gd_prepare_report *report, bool json, gd_bytes *out);

#endif
