/* tensorboard.c - the event files of TensorBoard: records, lengths, checksums. */
#include "io/metrics/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/base/append.h"
#include "shard/spec.h"
#include "tensorboard.pb-c.h"

enum { MOST_SCALARS = 16 };

struct gd_tensorboard {
  gd_append file;
};

uint32_t gd_crc32c(const void *bytes, size_t count) {
  const uint8_t *at = bytes;
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < count; i++) { /* records are short: a bit at a time is quick enough */
    crc ^= at[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
  }
  return ~crc;
}

/* A checksum of data that holds checksums is weak, so the format turns and shifts it (TFRecord). */
static uint32_t masked(const void *bytes, size_t count) {
  uint32_t crc = gd_crc32c(bytes, count);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void put_little_endian(uint8_t *out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> (8 * i));
}

/* must: a record that the disk refuses is a fault, else it is lost. */
static gd_status append(gd_tensorboard *board, const GptdistEvents__Event *event, bool must) {
  size_t length = gptdist_events__event__get_packed_size(event), size = 12 + length + 4;
  uint8_t *record = malloc(size);
  if (!record) return gd_fail(GD_NO_MEMORY, "no memory for a record of %zu bytes", size);
  put_little_endian(record, length, 8);
  put_little_endian(record + 8, masked(record, 8), 4);
  gptdist_events__event__pack(event, record + 12);
  put_little_endian(record + 12 + length, masked(record + 12, length), 4);
  gd_status status = GD_OK;
  if (must)
    status = gd_append_write(&board->file, record, size);
  else
    gd_append_offer(&board->file, record, size);
  free(record);
  return status;
}

static void begin(GptdistEvents__Event *event, int64_t step) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  gptdist_events__event__init(event);
  event->has_wall_time = 1;
  event->wall_time = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
  event->has_step = 1;
  event->step = step;
}

static gd_status write_head(gd_tensorboard *board, int64_t start_step) {
  GptdistEvents__Event event;
  char version[] = "brain.Event:2";
  begin(&event, 0);
  event.file_version = version;
  GD_TRY(append(board, &event, true));
  GptdistEvents__SessionLog session;
  gptdist_events__session_log__init(&session);
  session.has_status = 1;
  session.status = GPTDIST_EVENTS__SESSION_LOG__STATUS__START;
  begin(&event, start_step);
  event.session_log = &session;
  return append(board, &event, true);
}

gd_status gd_tensorboard_open(const char *folder, int64_t start_step, gd_tensorboard **out) {
  char host[64] = "host", name[160];
  *out = NULL;
  GD_TRY(gd_folder_make(folder));
  gethostname(host, sizeof host - 1);
  gd_tensorboard *board = calloc(1, sizeof *board);
  if (!board) return gd_fail(GD_NO_MEMORY, "no memory for an event file");
  board->file.file = -1;
  gd_status status = GD_OK;
  /* The name carries the second and the process; a process that opens twice in a second counts on. */
  for (int n = 0; n < 1000; n++) {
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld.%d", (long long)time(NULL), host, (long)getpid(), n);
    GD_TRY_GOTO(status, done, gd_path_join(board->file.path, sizeof board->file.path, folder, name));
    status = gd_append_open(&board->file, O_EXCL);
    if (status == GD_OK || errno != EEXIST) break;
  }
  if (status == GD_OK) status = write_head(board, start_step);
done:
  if (status == GD_OK)
    *out = board;
  else
    gd_tensorboard_close(board);
  return status;
}

gd_status gd_tensorboard_write(gd_tensorboard *board, int64_t step, const gd_scalar *scalars, int count) {
  GptdistEvents__Event event;
  GptdistEvents__Summary summary;
  GptdistEvents__Summary__Value values[MOST_SCALARS], *list[MOST_SCALARS];
  if (count > MOST_SCALARS) return gd_fail(GD_BUG, "%d scalars at once", count);
  gptdist_events__summary__init(&summary);
  for (int i = 0; i < count; i++) {
    gptdist_events__summary__value__init(&values[i]);
    values[i].tag = (char *)(uintptr_t)scalars[i].tag; /* only read */
    values[i].has_simple_value = 1;
    values[i].simple_value = (float)scalars[i].value;
    list[i] = &values[i];
  }
  summary.n_value = (size_t)count;
  summary.value = list;
  begin(&event, step);
  event.summary = &summary;
  return append(board, &event, false);
}

void gd_tensorboard_close(gd_tensorboard *board) {
  if (!board) return;
  gd_append_close(&board->file);
  free(board);
}
