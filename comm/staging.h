/* staging.h - calls in host memory for a device whose memory the host cannot reach: what a call reads is copied into pinned
 * memory in stream order, a thread of the stream's own makes the call there, and the stream goes on, with what came, once that
 * is done. A thread of our own, since CUDA may run the host tasks of all streams on one, where calls of two groups would wait
 * for each other; it calls nothing of the device, which might wait for it. Private to comm/. */
#ifndef GD_COMM_STAGING_H
#define GD_COMM_STAGING_H

#include <stdbool.h>

#include "comm/device.h"

/* The threads and pinned memory of a device's streams, both made at a stream's first call; its memory grows to its largest
 * call. Used from one thread. */
typedef struct gd_staging gd_staging;

/* A part of what a call reads, writes, or both. */
typedef struct gd_piece {
  void *device;
  size_t bytes;
  bool in, out;
  void *host; /* filled by gd_staging_place: where the call finds it, 64-aligned */
} gd_piece;

/* Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_staging_open(gd_device *device, gd_staging **out);
/* After the last wait for the device's streams, before it is closed. */
void gd_staging_close(gd_staging *staging);

/* Gives each piece its place in the stream's pinned memory; the order of the pieces is that of their addresses. Waits for the
 * stream where it has to grow. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_staging_place(gd_staging *staging, gd_stream *stream, gd_piece *pieces, int32_t count);
/* Enqueues the call: task(copy of arguments) between the copies. A fault of it is the stream's. arguments_bytes <= 256. */
GD_CHECKED gd_status gd_staging_call(gd_staging *staging, gd_stream *stream, const char *name, gd_stream_task *task,
                                     const void *arguments, size_t arguments_bytes, const gd_piece *pieces, int32_t count);

#endif
