/* folder.h - names inside RUN/checkpoints: step-00001000, step-00001000.tmp-ID (a save under way or killed),
 * step-00001000.bad (damaged, set aside), step-00001000.old (of a try that was taken back), step-00001000.replaced (for the
 * moment in which a newer one takes its name), LATEST and BEST (hints). All calls are local. */
#ifndef GD_IO_CHECKPOINT_FOLDER_H
#define GD_IO_CHECKPOINT_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"
#include "shard/spec.h"

/* The step of a name like step-00001000 (a folder's last component); -1 for any other name. */
int64_t gd_checkpoint_step_of(const char *name);
void gd_checkpoint_step_name(int64_t step, char out[32]);

/* Steps of the checkpoints in the folder, newest first; the caller frees *steps. *bad (may be NULL) = how many were set aside.
 * A folder that does not exist holds none. GD_IO, GD_NO_MEMORY. */
GD_CHECKED gd_status gd_checkpoint_list(const char *folder, int64_t **steps, int32_t *count, int32_t *bad);

/* The same for who looks before gd_checkpoint_recover ran: a step counts for each of its names, step-N and step-N.replaced.
 * Where one of it lies, step-N if that is there; step-N.replaced. GD_IO, GD_NO_MEMORY. */
GD_CHECKED gd_status gd_checkpoint_list_unrecovered(const char *folder, int64_t **steps, int32_t *count, int32_t *bad);
GD_CHECKED gd_status gd_checkpoint_place(const char *folder, int64_t step, char out[GD_PATH_BYTES]);
GD_CHECKED gd_status gd_checkpoint_aside(const char *folder, int64_t step, char out[GD_PATH_BYTES]);

/* A checkpoint that stepped aside for a newer one of its step (NAME.replaced) gets its name back where a kill or a fault came
 * before the newer one took it; else it is kept as NAME.old, since either may be the whole one. By who owns the run, before
 * gd_checkpoint_list. GD_IO. */
GD_CHECKED gd_status gd_checkpoint_recover(const char *folder);

/* Recovers, then removes what killed saves left (names with .tmp-). GD_IO. */
GD_CHECKED gd_status gd_checkpoint_sweep(const char *folder);

/* A hint file's step; -1 when there is none, or no step in it. GD_IO. */
GD_CHECKED gd_status gd_checkpoint_hint(const char *folder, const char *hint, int64_t *step);
/* step -1: there is to be none. GD_IO. */
GD_CHECKED gd_status gd_checkpoint_set_hint(const char *folder, const char *hint, int64_t step);

/* TEMPORARY becomes FOLDER/step-N, on the disk, also where that name is taken (what was there is then removed). On a fault what
 * was there is there again, or is once gd_checkpoint_recover ran. GD_IO. */
GD_CHECKED gd_status gd_checkpoint_publish(const char *folder, const char *temporary, int64_t step);

/* Removes FOLDER/step-N so that no half of it is ever seen under that name. */
GD_CHECKED gd_status gd_checkpoint_remove(const char *folder, int64_t step);

/* Renames a checkpoint to NAME.WHY (NAME.WHY.2 and so on where taken), WHY being "bad" or "old". `renamed` receives the new
 * path. */
GD_CHECKED gd_status gd_checkpoint_set_aside(const char *path, const char *why, char renamed[GD_PATH_BYTES]);

#endif
