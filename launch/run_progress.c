/* run_progress.c - the newest step on the disk, and a note of requeues that brought none. */
#include "launch/run_progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/base/json.h"
#include "io/checkpoint/folder.h"
#include "shard/spec.h"

enum { LIMIT = 4096 };

int64_t gd_run_newest_step(const char *directory) {
  char folder[GD_PATH_BYTES + 32];
  int64_t *steps = NULL, newest = -1;
  int32_t count = 0;
  if (!*directory) return -1;
  snprintf(folder, sizeof folder, "%s/checkpoints", directory);
  if (gd_checkpoint_list(folder, &steps, &count, NULL) != GD_OK)
    gd_error_clear();
  else if (count > 0)
    newest = steps[0];
  free(steps);
  return newest;
}

bool gd_run_may_requeue(const char *directory, const char *job, int64_t step) {
  char path[GD_PATH_BYTES + 32];
  gd_json *root = NULL;
  gd_bytes text = {0};
  int64_t before, idle = 0;
  if (!*directory) return true;
  snprintf(path, sizeof path, "%s/requeues.json", directory);
  if (gd_file_exists(path) && gd_json_read(path, LIMIT, &root) != GD_OK) gd_error_clear();
  const char *whose = gd_json_string(gd_json_get(root, "job"));
  bool same = whose && strcmp(whose, job) == 0 && gd_json_integer(gd_json_get(root, "step"), &before) && before == step;
  if (!same || !gd_json_integer(gd_json_get(root, "without_a_step"), &idle)) idle = -1;
  gd_json_free(root);
  idle++; /* the first one at a step follows a start that may have made it */
  if (idle >= GD_RUN_IDLE_REQUEUES) return false;
  gd_status status = gd_bytes_printf(&text, "{\"job\": ");
  if (status == GD_OK) status = gd_json_quote(&text, job, strlen(job));
  if (status == GD_OK)
    status = gd_bytes_printf(&text, ", \"step\": %lld, \"without_a_step\": %lld}\n", (long long)step, (long long)idle);
  if (status == GD_OK) status = gd_file_replace(path, text.bytes, text.count);
  if (status != GD_OK) gd_error_clear();
  gd_bytes_free(&text);
  return true;
}
