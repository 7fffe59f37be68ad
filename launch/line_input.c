/* line_input.c - lines as they come. */
#include "launch/line_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "launch/signals.h"

enum { PIECE = 1 << 16, LOOK_MS = 100 };

gd_status gd_input_open(gd_input *out, const char *path, bool first) {
  *out = (gd_input){.path = path, .file = -1, .reads = first};
  bool standard = strcmp(path, "-") == 0;
  if (standard) out->path = "standard input";
  if (!first) return GD_OK;
  if (!standard) GD_TRY(gd_path_named(path, GD_PATH_FILE, "a JSON Lines file, or - for standard input"));
  out->file = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
  return out->file >= 0 ? GD_OK : gd_fail_user(GD_IO, "%s: %s", path, strerror(errno));
}

void gd_input_close(gd_input *input) {
  if (input->file > STDIN_FILENO) close(input->file);
  gd_bytes_free(&input->read);
  memset(input, 0, sizeof *input);
}

/* Bytes that are there, if any; with `wait` it looks until some are, or a signal came. *none: there are none. */
static gd_status read_some(gd_input *input, bool wait, bool *none) {
  struct pollfd ready = {.fd = input->file, .events = POLLIN};
  while (true) {
    int count = poll(&ready, 1, wait ? LOOK_MS : 0);
    if (count < 0 && errno != EINTR) return gd_fail(GD_IO, "%s: poll: %s", input->path, strerror(errno));
    if (count > 0) break;
    *none = !wait || gd_signals_pending();
    if (*none) return GD_OK;
  }
  if (input->at > 0) { /* what was given goes */
    input->read.count -= input->at;
    memmove(input->read.bytes, input->read.bytes + input->at, input->read.count);
    input->searched -= input->at;
    input->at = 0;
  }
  GD_TRY(gd_bytes_reserve(&input->read, PIECE));
  ssize_t got = read(input->file, input->read.bytes + input->read.count, PIECE);
  if (got < 0 && errno != EINTR && errno != EAGAIN) return gd_fail_user(GD_IO, "%s: %s", input->path, strerror(errno));
  if (got == 0) input->ended = true;
  if (got > 0) input->read.count += (size_t)got;
  return GD_OK;
}

static gd_status find_line(gd_input *input, bool wait, gd_input_kind *kind, const char **line, size_t *count) {
  *kind = GD_INPUT_NONE;
  while (true) {
    size_t left = input->read.count - input->searched;
    const char *end = left ? memchr(input->read.bytes + input->searched, '\n', left) : NULL;
    if (end || (input->ended && input->read.count > input->at)) {
      *line = input->read.bytes + input->at;
      *count = end ? (size_t)(end - *line) : input->read.count - input->at;
      input->at += *count + (end ? 1 : 0);
      input->searched = input->at;
      if (!input->keeps_return && *count && (*line)[*count - 1] == '\r') --*count;
      *kind = GD_INPUT_LINE;
      return GD_OK;
    }
    input->searched = input->read.count;
    if (input->searched - input->at > GD_INPUT_MOST)
      return gd_fail_user(GD_BAD_DATA, "%s: found a line of more than 256 MiB", input->path);
    if (input->ended) {
      *kind = GD_INPUT_END;
      return GD_OK;
    }
    bool none = false;
    GD_TRY(read_some(input, wait, &none));
    if (none) return GD_OK;
  }
}

gd_status gd_input_next(gd_input *input, gd_session *session, bool wait, gd_input_kind *kind, gd_bytes *line) {
  int64_t head[2] = {GD_INPUT_NONE, 0};
  const char *found = "";
  size_t count = 0;
  gd_status status = GD_OK;
  if (input->reads) {
    status = find_line(input, wait, kind, &found, &count);
    head[0] = *kind;
    head[1] = (int64_t)count;
  }
  if (gd_session_ranks(session) > 1) {
    GD_TRY(gd_session_agree(session, status));
    GD_TRY(gd_session_broadcast(session, head, sizeof head, 0));
  }
  GD_TRY(status);
  *kind = (gd_input_kind)head[0];
  count = (size_t)head[1];
  GD_TRY(gd_bytes_reserve(line, count + 1));
  if (input->reads) memcpy(line->bytes, found, count);
  if (gd_session_ranks(session) > 1 && count) GD_TRY(gd_session_broadcast(session, line->bytes, count, 0));
  line->bytes[count] = 0;
  line->count = count;
  return GD_OK;
}
