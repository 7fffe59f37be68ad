/* run_watch.c - no sign of life from any rank of this host. */
#include "launch/run_watch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ranks that live tell of others within 3 s after the deadline, and mpirun ends then. */
enum { LATER_MS = 5000, OVER_MS = 20000, EMPTY_MS = 30000, AWAY_MS = 3 * GD_RUN_WATCH_TICK_MS };

void gd_run_watch_open(gd_run_watch *watch, const char *mark, int64_t now_ms) {
  *watch = (gd_run_watch){.socket = gd_launcher_listen(mark), .heard_ms = now_ms, .looked_ms = now_ms};
}

void gd_run_watch_close(gd_run_watch *watch) {
  if (watch->socket >= 0) close(watch->socket);
  watch->socket = -1;
}

bool gd_run_watch_is_silent(gd_run_watch *watch, int64_t now_ms, char *text, size_t bytes) {
  char host[64] = "";
  if (watch->socket < 0) return false;
  /* This process was stopped, too, as a batch system suspends a whole job. */
  if (now_ms - watch->looked_ms > AWAY_MS) watch->heard_ms = now_ms;
  watch->looked_ms = now_ms;
  while (gd_launcher_hear(watch->socket, &watch->last)) {
    watch->heard_ms = now_ms;
    watch->heard = true;
    if (watch->last.leaves && !watch->left_ms) watch->left_ms = now_ms;
  }
  if (watch->last.watchdog_ms <= 0 || now_ms - watch->heard_ms < watch->last.watchdog_ms + LATER_MS) return false;
  char step[32] = "";
  if (watch->last.step >= 0) snprintf(step, sizeof step, "step %lld, ", (long long)watch->last.step);
  gethostname(host, sizeof host - 1);
  snprintf(text, bytes,
           "no rank on %s gives a sign of life: the last came %lld s ago from rank %d in %sphase %s; they are stopped, or this "
           "host stood still for them",
           host, (long long)((now_ms - watch->heard_ms) / 1000), watch->last.rank, step, watch->last.phase);
  return true;
}

bool gd_run_watch_is_over(const gd_run_watch *watch, int64_t now_ms) {
  return watch->left_ms && now_ms - watch->left_ms >= OVER_MS;
}

/* Whether any process that has not ended is a child of this one; true where the system does not tell. */
static bool has_children(pid_t parent) {
  DIR *folder = opendir("/proc");
  if (!folder) return true;
  bool known = false, found = false;
  for (struct dirent *entry; !found && (entry = readdir(folder));) {
    char path[64], line[512], state;
    long pid = strtol(entry->d_name, NULL, 10), of;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = pid > 0 ? fopen(path, "re") : NULL;
    if (!file) continue;
    const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    if (!name_end || sscanf(name_end + 1, " %c %ld", &state, &of) != 2) continue;
    known = known || pid == parent;
    found = of == parent && state != 'Z' && state != 'X';
  }
  closedir(folder);
  return found || !known;
}

bool gd_run_watch_is_empty(gd_run_watch *watch, pid_t starter, int64_t now_ms) {
  if (watch->heard || now_ms - watch->heard_ms < AWAY_MS || has_children(starter)) {
    watch->empty_ms = 0;
    return false;
  }
  if (!watch->empty_ms) watch->empty_ms = now_ms;
  return now_ms - watch->empty_ms >= EMPTY_MS;
}
