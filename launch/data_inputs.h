/* data_inputs.h - the options that say how input files are read, shared by the verbs of gptdist-data that read them. Local. */
#ifndef GD_LAUNCH_DATA_INPUTS_H
#define GD_LAUNCH_DATA_INPUTS_H

#include "io/text/inputs.h"
#include "launch/options.h"

typedef struct gd_data_inputs {
  const char *format, *text_field, *invalid, *separator, *empty;
  int64_t text_column;
} gd_data_inputs;

/* Rows of an option table. */
#define GD_DATA_INPUTS(in)                                                                                               \
  {"--format", GD_OPTION_TEXT, &(in).format, "FORMAT", "auto (by name), text, jsonl, json, csv, tsv", 0, 0},             \
      {"--document-separator",                                                                                           \
       GD_OPTION_TEXT,                                                                                                   \
       &(in).separator,                                                                                                  \
       "TEXT",                                                                                                           \
       "text: the line between documents (<|endoftext|>)",                                                               \
       0,                                                                                                                \
       0},                                                                                                               \
      {"--text-field", GD_OPTION_TEXT, &(in).text_field, "NAME", "field or column that holds the text (text)", 0, 0},    \
      {"--text-column", GD_OPTION_INTEGER, &(in).text_column, "N", "csv, tsv without a header: column, from 1", 1, 1e6}, \
      {"--empty", GD_OPTION_TEXT, &(in).empty, "error|drop", "drop: leave out and count rows of an empty text", 0, 0}, { \
    "--invalid-utf8", GD_OPTION_TEXT, &(in).invalid, "error|replace", "replace: U+FFFD in place of an error", 0, 0       \
  }

GD_CHECKED gd_status gd_data_read_inputs(const gd_data_inputs *in, gd_corpus_options *out);

/* What the words of the line mean; what a folder has beside it is said. gd_inputs_free in any case. */
GD_CHECKED gd_status gd_data_expand(const gd_command_line *line, gd_corpus_format format, gd_inputs *out);

#endif
