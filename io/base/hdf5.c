/* hdf5.c - HDF5 as shards and checkpoints use it: one thread at a time, silent, its fault in one text. */
#include "io/base/hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shard/base/progress.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char no_reason[] = "no reason given";
static _Thread_local char fault_text[256];
static _Thread_local gd_status fault_status; /* GD_OK: neither the system's nor for want of memory */

/* Without this the library would close what a failed write left open when the process ends, fail again and crash there. Files
 * are always closed here. It must come before the library's own start, whoever makes the first call. */
__attribute__((constructor)) static void leave_quietly(void) {
  H5dont_atexit();
}

void gd_hdf5_enter(void) {
  pthread_mutex_lock(&mutex);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  H5Eclear2(H5E_DEFAULT);
  snprintf(fault_text, sizeof fault_text, "%s", no_reason);
  fault_status = GD_OK;
}

void gd_hdf5_leave(void) {
  pthread_mutex_unlock(&mutex);
}

/* The innermost entry of the error stack names the fault; walked upward it comes first. Its text has "errno = 5" in it where a
 * call to the system failed, behind a path that may be longer than our text. */
static herr_t innermost(unsigned depth, const H5E_error2_t *entry, void *context) {
  (void)context;
  static const char mark[] = ", errno = ";
  if (depth != 0) return 0;
  const char *text = entry->desc ? entry->desc : no_reason, *number = strstr(text, mark);
  bool memory = entry->maj_num == H5E_RESOURCE && entry->min_num == H5E_NOSPACE;
  fault_status = number ? GD_IO : memory ? GD_NO_MEMORY : GD_OK;
  snprintf(fault_text, sizeof fault_text, "%s", number ? strerror(atoi(number + sizeof mark - 1)) : text);
  return 0;
}

bool gd_hdf5_failed(hid_t result) {
  if (result >= 0) return false;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, NULL);
  H5Eclear2(H5E_DEFAULT);
  return true;
}

const char *gd_hdf5_text(void) {
  return fault_text;
}

gd_status gd_hdf5_status(gd_status otherwise) {
  return fault_status == GD_OK ? otherwise : fault_status;
}

hid_t gd_hdf5_access(void) {
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
  if (list >= 0) H5Pset_file_locking(list, 0, 1);
#endif
  return list;
}

void gd_hdf5_let_go(hid_t file) {
  void *handle = NULL;
  if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 || !handle) return;
  int memory = memfd_create("gptdist-abandoned", MFD_CLOEXEC);
  if (memory < 0) return;
  (void)dup3(memory, *(int *)handle, O_CLOEXEC);
  close(memory);
}

int gd_hdf5_sync(hid_t file) {
  void *handle = NULL;
  if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 || !handle) return 0;
  int fault = fdatasync(*(int *)handle) ? errno : 0;
  gd_progress();
  return fault;
}

herr_t gd_hdf5_transfer(hid_t dataset, hid_t memory_type, int64_t first, int64_t count, const void *from, void *to) {
  hsize_t start = (hsize_t)first, length = (hsize_t)count;
  hid_t memory = H5Screate_simple(1, &length, NULL), space = H5Dget_space(dataset);
  herr_t result = -1;
  if (memory >= 0 && space >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &length, NULL) >= 0)
    result = from ? H5Dwrite(dataset, memory_type, memory, space, H5P_DEFAULT, from)
                  : H5Dread(dataset, memory_type, memory, space, H5P_DEFAULT, to);
  (void)gd_hdf5_failed(result); /* the closes below would lose the text */
  gd_progress();
  if (space >= 0) H5Sclose(space);
  if (memory >= 0) H5Sclose(memory);
  return result;
}
