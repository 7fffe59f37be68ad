/* inputs.h - the files that a person's words mean: files, folders (with all below them) and patterns. Local. */
#ifndef GD_IO_TEXT_INPUTS_H
#define GD_IO_TEXT_INPUTS_H

#include "io/text/corpus.h"

typedef struct gd_inputs {
  char **path;
  int32_t count, capacity;
  int32_t skipped;     /* files of folders whose names say no format */
  char *first_skipped; /* NULL: none */
} gd_inputs;

/* In the order of the words; the files of a folder in the order of their paths, byte by byte. A word that is no file and holds
 * *, ? or [ is a pattern (glob). "-" is standard input. Hidden files of folders are left out, and so is, with GD_CORPUS_AUTO,
 * what says no format. GD_USAGE: nothing there, nothing found, or standard input twice. GD_IO. gd_inputs_free in any case. */
GD_CHECKED gd_status gd_inputs_expand(const char *const *words, int32_t count, gd_corpus_format format, gd_inputs *out);
void gd_inputs_free(gd_inputs *inputs);

#endif
