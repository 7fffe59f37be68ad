/* device_guard.h - GPTDIST_DEVICE_GUARD=1: what a kernel writes outside its memory is found, on any device. */
#ifndef GD_COMM_DEVICE_GUARD_H
#define GD_COMM_DEVICE_GUARD_H

#include <stdlib.h>
#include <string.h>

#include "comm/device.h"

/* Whether the environment asks for it. */
static inline bool gd_device_guarded(void) {
  const char *asked = getenv("GPTDIST_DEVICE_GUARD");
  return asked && *asked && strcmp(asked, "0") != 0;
}

/* Where the environment asks for it, each request of an opened device's memory is from now on poisoned (bytes 0xFF, a NaN in
 * every float type) and lies between guard bytes, which are looked at when the memory is given back and when the device is
 * closed; giving back then waits for both streams. On a GPU nothing is allocated beyond them. Bytes that were overwritten end
 * the process with GD_BUG, after a text on the standard error. Else does nothing. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_device_guard(gd_device *device);

#endif
