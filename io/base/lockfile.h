/* lockfile.h - one process at a time works in a folder: a lock on FOLDER/lock that ends with the process that holds it,
 * whatever ends it, so that a file left by a killed run is no obstacle. Local. */
#ifndef GD_IO_BASE_LOCKFILE_H
#define GD_IO_BASE_LOCKFILE_H

#include <stdbool.h>

#include "shard/base/status.h"

typedef struct gd_lockfile gd_lockfile;

/* GD_IO naming process and host where another process holds the lock, or where the file cannot be made. */
GD_CHECKED gd_status gd_lockfile_take(const char *folder, gd_lockfile **out);

/* Whether FOLDER/lock is still the file that was locked: a folder that is removed or moved away under its holder is free for
 * others. Removed: also where another lock file of this process lies there, and nobody holds it. Two looks at files; held where
 * the system does not tell. */
typedef enum gd_lockfile_state { GD_LOCKFILE_HELD, GD_LOCKFILE_REMOVED, GD_LOCKFILE_REPLACED } gd_lockfile_state;
gd_lockfile_state gd_lockfile_look(const gd_lockfile *lock);

/* Whether FOLDER is still the folder that was locked, whatever became of the file in it. False where the system does not tell.
 */
bool gd_lockfile_folder_stays(const gd_lockfile *lock);

void gd_lockfile_release(gd_lockfile *lock);
/* The same, but the file says on whose it was: this process may come back to it. */
void gd_lockfile_drop(gd_lockfile *lock);

#endif
