/* line_input.h - lines of a file or of standard input, read by rank 0 and seen by all. */
#ifndef GD_LAUNCH_LINE_INPUT_H
#define GD_LAUNCH_LINE_INPUT_H

#include "comm/session.h"
#include "io/base/files.h"

typedef struct gd_input {
  const char *path;
  int file;          /* on rank 0 */
  gd_bytes read;     /* and not yet given */
  size_t at;         /* given, of it */
  size_t searched;   /* of it, without a line's end */
  bool reads, ended; /* this is rank 0; nothing comes any more */
  bool keeps_return; /* a carriage return at a line's end stays */
} gd_input;

enum { GD_INPUT_MOST = 1 << 28 }; /* bytes of a line */

typedef enum gd_input_kind { GD_INPUT_NONE, GD_INPUT_LINE, GD_INPUT_END } gd_input_kind;

/* path "-": standard input. GD_USAGE where there is no such file. Local; `first`: this is rank 0. */
GD_CHECKED gd_status gd_input_open(gd_input *out, const char *path, bool first);
void gd_input_close(gd_input *input);

/* The next line, without its end. GD_INPUT_NONE: none is there now, which is only told where `wait` is false or a signal came.
 * A line is of at most 256 MiB: GD_BAD_DATA. Collective over the job. */
GD_CHECKED gd_status gd_input_next(gd_input *input, gd_session *session, bool wait, gd_input_kind *kind, gd_bytes *line);

#endif
