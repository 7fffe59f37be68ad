/* lockfile.h - one process at a time works in a folder: a lock on FOLDER/lock that ends with the process that holds it,
 * whatever ends it, so that a file left by a killed run is no obstacle. Local. */
#ifndef GD_IO_BASE_LOCKFILE_H
#define GD_IO_BASE_LOCKFILE_H

#include <stdbool.h>

#include "shard/base/status.h"

typedef struct gd_lockfile gd_lockfile;

/* GD_IO naming process and host where another process holds the lock, or where the file cannot be made. */
GD_CHECKED gd_status gd_lockfile_take(const char *folder, gd_lockfile **out);
/* From here on the folder is the holder's work: until then the file says that it only starts. GD_IO. */
GD_CHECKED gd_status gd_lockfile_begin(gd_lockfile *lock);

/* Whether FOLDER/lock is still the file that was locked: a folder that is removed or moved away under its holder is free for
 * others. Replaced: another holds it, or held it and began. Removed: the file is gone, or one lies there that nobody holds, of
 * this process or of a start that ended before it began. A few looks at files; held where the system does not tell. */
typedef enum gd_lockfile_state { GD_LOCKFILE_HELD, GD_LOCKFILE_REMOVED, GD_LOCKFILE_REPLACED } gd_lockfile_state;
gd_lockfile_state gd_lockfile_look(const gd_lockfile *lock);

/* Whether FOLDER is still the folder that was locked, whatever became of the file in it. False where the system does not tell.
 */
bool gd_lockfile_folder_stays(const gd_lockfile *lock);

void gd_lockfile_release(gd_lockfile *lock);

#endif
