/* files.h - small files and folders: read or write one whole, make, publish by rename, remove. All calls are local; faults
 * name the path and the system's text; their status is GD_IO where nothing else is said. */
#ifndef GD_IO_BASE_FILES_H
#define GD_IO_BASE_FILES_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

/* A growable run of bytes; all zeros is empty. bytes[count] is always a terminating zero where capacity > 0. */
typedef struct gd_bytes {
  char *bytes;
  size_t count, capacity;
} gd_bytes;

/* Room for `more` bytes behind count; append copies them there. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_bytes_reserve(gd_bytes *buffer, size_t more);
GD_CHECKED gd_status gd_bytes_append(gd_bytes *buffer, const void *bytes, size_t count);
GD_CHECKED gd_status gd_bytes_printf(gd_bytes *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gd_bytes_free(gd_bytes *buffer);

/* One rule for what a missing file means, and so for the exit code of every program: where a person named the path it is
 * GD_USAGE, and gd_path_named asks that once, at the door; where a file or a folder's format named it, it is GD_BAD_DATA, as a
 * folder in a file's place is. What else the system says (rights, a failing device) is GD_IO. `fault` is an errno. */
GD_CHECKED gd_status gd_fault_named(int fault);
GD_CHECKED gd_status gd_fault_listed(int fault);

/* Is what a person named there, of that kind, and may it be read? Says so, with what was `expected` ("a text file"), if not. */
typedef enum gd_path_kind { GD_PATH_ANY, GD_PATH_FILE, GD_PATH_FOLDER, GD_PATH_NOTHING } gd_path_kind;
GD_CHECKED gd_status gd_path_named(const char *path, gd_path_kind kind, const char *expected);

/* The whole file, appended to `out`. Missing (gd_fault_listed) or over `limit` bytes: GD_BAD_DATA. */
GD_CHECKED gd_status gd_file_read(const char *path, size_t limit, gd_bytes *out);

/* Creates or replaces the file and forces it to the disk. */
GD_CHECKED gd_status gd_file_write(const char *path, const void *bytes, size_t count);

/* The same, so that a reader sees the old bytes or the new ones: PATH.tmp-new, forced to the disk, renamed, folder forced. */
GD_CHECKED gd_status gd_file_replace(const char *path, const void *bytes, size_t count);

bool gd_file_exists(const char *path);
bool gd_folder_exists(const char *path);

/* What is at the path, where "it is not there" and "the system does not say" must not be mixed up: GD_IO for the latter. */
GD_CHECKED gd_status gd_path_look(const char *path, gd_path_kind *out);

/* The next entry of a folder but "." and ".."; *out = NULL at the end. GD_IO naming `path`, the folder's. */
GD_CHECKED gd_status gd_folder_next(DIR *entries, const char *path, struct dirent **out);

/* mkdir -p. */
GD_CHECKED gd_status gd_folder_make(const char *path);

/* Forces the entries of a folder to the disk. */
GD_CHECKED gd_status gd_folder_sync(const char *path);

/* rm -r; a path that does not exist is fine. */
GD_CHECKED gd_status gd_folder_remove(const char *path);

/* "a/b" into out[size]. GD_USAGE where it does not fit. */
GD_CHECKED gd_status gd_path_join(char *out, size_t size, const char *folder, const char *name);

#endif
