/* data_inputs.c - how the inputs of gptdist-data are read. */
#include "launch/data_inputs.h"

#include <string.h>

#include "shard/base/log.h"

gd_status gd_data_read_inputs(const gd_data_inputs *in, gd_corpus_options *out) {
  static const char *const formats[] = {"auto", "text", "jsonl", "json", "csv", "tsv"};
  const char *format = in->format ? in->format : "auto", *invalid = in->invalid ? in->invalid : "error";
  const char *empty = in->empty ? in->empty : "error";
  size_t k = 0;
  while (k < sizeof formats / sizeof *formats && strcmp(format, formats[k]) != 0) k++;
  if (k == sizeof formats / sizeof *formats)
    return gd_fail_user(GD_USAGE, "--format: found \"%s\", expected auto, text, jsonl, json, csv or tsv", format);
  if (strcmp(invalid, "error") != 0 && strcmp(invalid, "replace") != 0)
    return gd_fail_user(GD_USAGE, "--invalid-utf8: found \"%s\", expected error or replace", invalid);
  if (strcmp(empty, "error") != 0 && strcmp(empty, "drop") != 0)
    return gd_fail_user(GD_USAGE, "--empty: found \"%s\", expected error or drop", empty);
  if (in->separator && (!in->separator[0] || strchr(in->separator, '\n')))
    return gd_fail_user(GD_USAGE, "--document-separator: found \"%s\", expected the text of one line", in->separator);
  *out = (gd_corpus_options){.format = (gd_corpus_format)k,
                             .separator = in->separator,
                             .text_field = in->text_field,
                             .text_column = in->text_column,
                             .drop_empty = strcmp(empty, "drop") == 0,
                             .replace_invalid = strcmp(invalid, "replace") == 0};
  return GD_OK;
}

gd_status gd_data_expand(const gd_command_line *line, gd_corpus_format format, gd_inputs *out) {
  GD_TRY(gd_inputs_expand((const char *const *)line->argument, line->arguments, format, out));
  if (out->skipped)
    gd_log(GD_LOG_WARNING, "%d %s of unknown format left out, the first is %s; see --format", out->skipped,
           out->skipped == 1 ? "file" : "files", out->first_skipped ? out->first_skipped : "");
  return GD_OK;
}
