/* run_line.h - the words of the mpirun or srun line that starts a job. */
#ifndef GD_LAUNCH_RUN_LINE_H
#define GD_LAUNCH_RUN_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

enum { GD_RUN_WORDS = 512, GD_RUN_TEXT_BYTES = 16384 };

typedef struct gd_run_request {
  int64_t ranks;       /* 0: all slots of `hosts`, or SLURM_NTASKS, or 1 */
  const char *hosts;   /* "a,b:4", or NULL */
  const char *network; /* interfaces or IPv4 networks between them: "eth1", "10.0.0.0/8"; NULL: all there are */
  int words;           /* the program and its arguments */
  char **word;
} gd_run_request;

typedef struct gd_run_line {
  int64_t ranks;
  bool srun;
  bool one_host;       /* mpirun here starts them all, as its children */
  bool oversubscribed; /* more ranks than cores here */
  int words;
  char *word[GD_RUN_WORDS + 1]; /* NULL at the end; in text or in the request */
  char text[GD_RUN_TEXT_BYTES];
  size_t text_used;
} gd_run_line;

/* Finds the program (beside this one, else as PATH would), decides between srun and mpirun, and quiets hwloc in this process's
 * environment. GD_USAGE. Local. */
GD_CHECKED gd_status gd_run_line_build(const gd_run_request *request, gd_run_line *out);

/* The line as one would type it in a shell, into out[bytes]. */
void gd_run_line_print(const gd_run_line *line, char *out, size_t bytes);

/* The first executable file of that name in PATH, into out[bytes]; false when there is none. */
bool gd_run_find_in_path(const char *name, char *out, size_t bytes);

#endif
