/* append.c - records at the end of a file: whole or not there. */
#include "io/base/append.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "shard/base/log.h"

gd_status gd_append_open(gd_append *file, int flags) {
  file->torn = false;
  file->lost = 0;
  file->file = open(file->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0666);
  off_t end = file->file < 0 ? -1 : lseek(file->file, 0, SEEK_END);
  if (end < 0) {
    int fault = errno;
    (void)gd_fail(GD_IO, "cannot open %s: %s", file->path, strerror(fault));
    errno = fault;
    return GD_IO;
  }
  file->whole = end;
  return GD_OK;
}

/* What a write that failed half-way left there would spoil the record that follows, too. */
static gd_status mend(gd_append *file) {
  if (file->torn && ftruncate(file->file, file->whole))
    return gd_fail(GD_IO, "cannot cut %s back to its last whole record: %s", file->path, strerror(errno));
  file->torn = false;
  return GD_OK;
}

gd_status gd_append_write(gd_append *file, const void *record, size_t count) {
  GD_TRY(mend(file));
  for (size_t done = 0; done < count;) {
    ssize_t put = write(file->file, (const char *)record + done, count - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      (void)gd_fail(GD_IO, "cannot write %s: %s", file->path, strerror(errno));
      file->torn = done > 0;
      gd_error fault;
      gd_error_take(GD_IO, &fault);
      (void)mend(file);
      return gd_error_raise(&fault);
    }
    done += (size_t)put;
  }
  file->whole += (int64_t)count;
  return GD_OK;
}

void gd_append_offer(gd_append *file, const void *record, size_t count) {
  if (gd_append_write(file, record, count) != GD_OK) {
    if (!file->lost++)
      gd_log_fault(GD_LOG_WARNING, "%s; the run goes on, lines are lost until it can be written", gd_error_text());
    gd_error_clear();
    return;
  }
  if (file->lost)
    gd_log(GD_LOG_WARNING, "%s can be written again: %" PRId64 " line%s lost", file->path, file->lost,
           file->lost == 1 ? " was" : "s were");
  file->lost = 0;
}

void gd_append_close(gd_append *file) {
  if (file->lost)
    gd_log(GD_LOG_WARNING, "%s could not be written to the end: %" PRId64 " line%s lost", file->path, file->lost,
           file->lost == 1 ? " was" : "s were");
  file->lost = 0;
  if (file->file < 0) return;
  (void)mend(file);
  close(file->file);
  file->file = -1;
}
