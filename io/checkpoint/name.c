/* name.c - RUN@best, RUN@last and RUN@STEP to the folder that is meant. */
#include "io/checkpoint/name.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/checkpoint/folder.h"

enum { LISTED = 12 }; /* steps in a message */

/* Where the path is none but has "@..." behind its last folder: *run gets what stands before it. NULL: it has not. */
static const char *word_of(const char *path, char run[GD_PATH_BYTES]) {
  const char *at = strrchr(path, '@');
  if (!at || at == path || strchr(at, '/') || (size_t)(at - path) >= GD_PATH_BYTES || gd_folder_exists(path)) return NULL;
  memcpy(run, path, (size_t)(at - path));
  run[at - path] = 0;
  return at + 1;
}

bool gd_checkpoint_is_name(const char *path) {
  char run[GD_PATH_BYTES];
  return word_of(path, run) && gd_folder_exists(run);
}

gd_status gd_checkpoint_named(const char *path, const char *expected) {
  char run[GD_PATH_BYTES];
  return gd_path_named(word_of(path, run) ? run : path, GD_PATH_FOLDER, expected);
}

gd_status gd_checkpoint_folder(const char *run, char out[GD_PATH_BYTES]) {
  gd_path_kind kind;
  GD_TRY(gd_path_join(out, GD_PATH_BYTES, run, "checkpoints"));
  GD_TRY(gd_path_look(out, &kind));
  if (kind != GD_PATH_FOLDER) snprintf(out, GD_PATH_BYTES, "%s", run);
  return GD_OK;
}

static bool listed(const int64_t *steps, int32_t count, int64_t step) {
  for (int32_t i = 0; i < count; i++)
    if (steps[i] == step) return true;
  return false;
}

gd_status gd_checkpoint_best(const char *folder, int64_t *step) {
  int64_t *steps;
  int32_t count;
  GD_TRY(gd_checkpoint_hint(folder, "BEST", step));
  GD_TRY(gd_checkpoint_list(folder, &steps, &count, NULL));
  if (!listed(steps, count, *step)) *step = -1;
  free(steps);
  return GD_OK;
}

/* One message with what there is: "it has @0, @500 and @last = @1000". */
static gd_status not_there(const char *path, const char *why, const int64_t *steps, int32_t count, int64_t best) {
  gd_bytes there = {0};
  gd_status status = GD_OK;
  if (!count) return gd_fail_user(GD_USAGE, "%s: %s: the run has no checkpoint", path, why);
  for (int32_t i = count < LISTED ? count - 1 : LISTED - 1; status == GD_OK && i >= 0; i--)
    status = gd_bytes_printf(&there, "%s%s@%" PRId64 "%s%s", there.count ? ", " : "",
                             i == LISTED - 1 && count > LISTED ? "..., " : "", steps[i], i ? "" : " = @last",
                             steps[i] == best ? " = @best" : "");
  if (status == GD_OK) status = gd_fail_user(GD_USAGE, "%s: %s: there is %s", path, why, there.bytes);
  gd_bytes_free(&there);
  return status;
}

static gd_status choose(const char *path, const char *word, const char *folder, const int64_t *steps, int32_t count,
                        int64_t *step) {
  int64_t best;
  size_t digits = strspn(word, "0123456789");
  GD_TRY(gd_checkpoint_best(folder, &best));
  if (strcmp(word, "best") == 0) {
    *step = best;
    return best >= 0 ? GD_OK : not_there(path, "no validation has marked a best one", steps, count, best);
  }
  if (strcmp(word, "last") == 0) {
    *step = count ? steps[0] : -1;
    return count ? GD_OK : not_there(path, "there is no last one", steps, count, best);
  }
  if (!digits || word[digits] || digits > 18)
    return not_there(path, "expected @best, @last or @ and a step", steps, count, best);
  *step = strtoll(word, NULL, 10);
  return listed(steps, count, *step) ? GD_OK : not_there(path, "there is no checkpoint of that step", steps, count, best);
}

gd_status gd_checkpoint_find(const char *path, char out[GD_PATH_BYTES], bool *exact) {
  char run[GD_PATH_BYTES], folder[GD_PATH_BYTES], name[32];
  const char *word = word_of(path, run);
  int64_t *steps, step = -1;
  int32_t count;
  *exact = word != NULL;
  if (!word) return gd_path_join(out, GD_PATH_BYTES, path, "");
  GD_TRY(gd_checkpoint_folder(run, folder));
  GD_TRY(gd_checkpoint_list(folder, &steps, &count, NULL));
  gd_status status = choose(path, word, folder, steps, count, &step);
  free(steps);
  GD_TRY(status);
  gd_checkpoint_step_name(step, name);
  return gd_path_join(out, GD_PATH_BYTES, folder, name);
}
