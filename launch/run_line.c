/* run_line.c - the words of the mpirun or srun line that starts a job. */
#include "launch/run_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/launcher.h"
#include "comm/machine.h"

bool gd_run_find_in_path(const char *name, char *out, size_t bytes) {
  const char *path = getenv("PATH");
  for (const char *p = path ? path : "/usr/bin:/bin"; *p; p += strspn(p, ":")) {
    size_t length = strcspn(p, ":");
    int n = snprintf(out, bytes, "%.*s/%s", (int)length, p, name);
    if (n > 0 && (size_t)n < bytes && access(out, X_OK) == 0) return true;
    p += length;
  }
  return false;
}

static gd_status add(gd_run_line *line, const char *format, ...) __attribute__((format(printf, 2, 3), warn_unused_result));

/* One word, kept in the line's own text. */
static gd_status add(gd_run_line *line, const char *format, ...) {
  va_list list;
  va_start(list, format);
  size_t room = sizeof line->text - line->text_used;
  int length = vsnprintf(line->text + line->text_used, room, format, list);
  va_end(list);
  if (length < 0 || (size_t)length >= room || line->words >= GD_RUN_WORDS) {
    return gd_fail_user(GD_USAGE, "the command line of the job is too long");
  }
  line->word[line->words++] = line->text + line->text_used;
  line->text_used += (size_t)length + 1;
  return GD_OK;
}

static gd_status add_all(gd_run_line *line, const char *const *words) {
  for (; *words; words++) GD_TRY(add(line, "%s", *words));
  return GD_OK;
}

/* "a,b:4" -> count of hosts and of the slots that are written out; every name checked. */
static gd_status read_hosts(const char *hosts, int64_t *count, int64_t *slots, bool *all_written) {
  *count = *slots = 0;
  *all_written = true;
  for (const char *p = hosts;; p++) {
    size_t length = strcspn(p, ","), name = strcspn(p, ",:");
    if (name == 0) return gd_fail_user(GD_USAGE, "--hosts: found \"%s\", expected names as in a,b:4", hosts);
    int64_t here = 1;
    if (name < length) {
      char *end;
      here = strtoll(p + name + 1, &end, 10);
      if (end != p + length || here < 1 || here > 4096) {
        return gd_fail_user(GD_USAGE, "--hosts: found \"%.*s\", expected NAME or NAME:RANKS", (int)length, p);
      }
    } else {
      *all_written = false;
    }
    *count += 1;
    *slots += here;
    p += length;
    if (!*p) return GD_OK;
  }
}

/* --host a:2,b:4: names without a number get what is left, dealt evenly. */
static gd_status add_hosts(gd_run_line *line, const char *hosts, int64_t each) {
  char text[4096];
  size_t used = 0;
  for (const char *p = hosts; used < sizeof text; p++) {
    size_t length = strcspn(p, ","), name = strcspn(p, ",:");
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%.*s", used ? "," : "", (int)length, p);
    if (name == length && used < sizeof text)
      used += (size_t)snprintf(text + used, sizeof text - used, ":%lld", (long long)each);
    p += length;
    if (!*p) break;
  }
  if (used >= sizeof text) return gd_fail_user(GD_USAGE, "--hosts: the list is too long");
  GD_TRY(add(line, "--host"));
  return add(line, "%s", text);
}

static gd_status decide_ranks(const gd_run_request *request, gd_run_line *line, int64_t *each) {
  *each = 1;
  line->ranks = request->ranks;
  if (request->hosts) {
    int64_t count, slots;
    bool all_written;
    GD_TRY(read_hosts(request->hosts, &count, &slots, &all_written));
    if (line->ranks == 0) line->ranks = slots;
    if (!all_written) *each = (line->ranks + count - 1) / count;
    if (all_written && line->ranks > slots) {
      return gd_fail_user(GD_USAGE, "-n: found %lld ranks, but --hosts has room for %lld", (long long)line->ranks,
                          (long long)slots);
    }
    return GD_OK;
  }
  if (line->ranks == 0) {
    const char *tasks = getenv("SLURM_JOB_ID") ? getenv("SLURM_NTASKS") : 0;
    line->ranks = tasks ? strtoll(tasks, 0, 10) : 1;
    if (line->ranks < 1) line->ranks = 1;
  }
  return GD_OK;
}

/* srun starts ranks itself only where it speaks PMIx, which Open MPI is built on. */
static bool srun_speaks_pmix(void) {
  char path[4096], line[512];
  if (!gd_run_find_in_path("srun", path, sizeof path)) return false;
  FILE *pipe = popen("srun --mpi=list 2>&1", "re");
  if (!pipe) return false;
  bool found = false;
  while (fgets(line, sizeof line, pipe)) found = found || strstr(line, "pmix");
  pclose(pipe);
  return found;
}

/* The network that carries what ranks on different hosts say to each other. */
static gd_status add_network_to_srun(gd_run_line *line, const char *network) {
  GD_TRY(add(line, "env"));
  GD_TRY(add(line, "OMPI_MCA_btl_tcp_if_include=%s", network));
  return add(line, "GPTDIST_NETWORK=%s", network);
}

static gd_status add_network_to_mpirun(gd_run_line *line, const char *network) {
  static const char *const names[] = {"btl_tcp_if_include", "oob_tcp_if_include", 0};
  for (const char *const *name = names; *name; name++) {
    GD_TRY(add(line, "--mca"));
    GD_TRY(add(line, "%s", *name));
    GD_TRY(add(line, "%s", network));
  }
  GD_TRY(add(line, "-x"));
  return add(line, "GPTDIST_NETWORK=%s", network);
}

static gd_status add_srun(const gd_run_request *request, gd_run_line *line) {
  static const char *const words[] = {"srun", "--mpi=pmix", "--kill-on-bad-exit=1", "--cpu-bind=none", 0};
  line->srun = true;
  if (request->network) GD_TRY(add_network_to_srun(line, request->network));
  GD_TRY(add_all(line, words));
  GD_TRY(add(line, "-n"));
  return add(line, "%lld", (long long)line->ranks);
}

static gd_status add_mpirun(const gd_run_request *request, gd_run_line *line, int64_t each) {
  /* Without --bind-to none all threads of a rank would sit on one core. */
  static const char *const always[] = {"--bind-to", "none", 0};
  /* A host that fell away is noticed in about 20 s instead of minutes. */
  static const char *const keepalive[] = {"--mca", "oob_tcp_keepalive_time",   "10", "--mca", "oob_tcp_keepalive_intvl", "3",
                                          "--mca", "oob_tcp_keepalive_probes", "3",  0};
  static const char *const carried[] = {"PATH",         "LD_LIBRARY_PATH", "GPTDIST_TERMINAL",
                                        "GPTDIST_ISA",  "GPTDIST_DEBUG",   "GPTDIST_START_DEADLINE",
                                        GD_LAUNCH_MARK, GD_LAUNCH_RESTART, 0};
  GD_TRY(add(line, "mpirun"));
  /* Its general remarks on non-zero exit codes would bury the program's own text; gptdist-run tells of signals. */
  GD_TRY(add(line, "--quiet"));
  if (geteuid() == 0) GD_TRY(add(line, "--allow-run-as-root"));
  GD_TRY(add(line, "-n"));
  GD_TRY(add(line, "%lld", (long long)line->ranks));
  if (request->hosts) GD_TRY(add_hosts(line, request->hosts, each));
  /* mpirun counts a slot for each physical core and refuses more ranks than that. */
  if (line->oversubscribed) GD_TRY(add(line, "--oversubscribe"));
  GD_TRY(add_all(line, always));
  if (line->oversubscribed) {
    static const char *const yield[] = {"--mca", "mpi_yield_when_idle", "1", 0};
    GD_TRY(add_all(line, yield));
  }
  if (request->hosts) GD_TRY(add_all(line, keepalive));
  if (request->network) GD_TRY(add_network_to_mpirun(line, request->network));
  for (const char *const *name = carried; request->hosts && *name; name++) {
    if (!getenv(*name)) continue;
    GD_TRY(add(line, "-x"));
    GD_TRY(add(line, "%s", *name));
  }
  return GD_OK;
}

static gd_status add_program(const gd_run_request *request, gd_run_line *line) {
  const char *name = request->word[0];
  char folder[4096], path[4096];
  gd_machine_folder(folder, sizeof folder);
  size_t folder_bytes = strlen(folder), name_bytes = strlen(name);
  bool beside = false;
  if (!strchr(name, '/') && folder_bytes + name_bytes < sizeof path) {
    memcpy(path, folder, folder_bytes);
    memcpy(path + folder_bytes, name, name_bytes + 1);
    beside = folder_bytes && access(path, X_OK) == 0;
  }
  if (beside) {
    GD_TRY(add(line, "%s", path));
  } else if (strchr(name, '/') ? access(name, X_OK) == 0 : gd_run_find_in_path(name, path, sizeof path)) {
    GD_TRY(add(line, "%s", name));
  } else if (!request->hosts) {
    return gd_fail_user(GD_USAGE, "%s: found no such program beside gptdist-run or in PATH", name);
  } else {
    GD_TRY(add(line, "%s", name));
  }
  for (int i = 1; i < request->words; i++) {
    if (line->words >= GD_RUN_WORDS) return gd_fail_user(GD_USAGE, "the command line of the job is too long");
    line->word[line->words++] = request->word[i];
  }
  line->word[line->words] = 0;
  return GD_OK;
}

gd_status gd_run_line_build(const gd_run_request *request, gd_run_line *out) {
  memset(out, 0, sizeof *out);
  /* mpirun's own hwloc complains of a container without /sys; with --bind-to none nothing depends on it. */
  (void)setenv("HWLOC_HIDE_ERRORS", "2", 0);
  int64_t each;
  GD_TRY(decide_ranks(request, out, &each));
  bool slurm = getenv("SLURM_JOB_ID") && !request->hosts;
  if (request->network && !slurm && !request->hosts)
    return gd_fail_user(GD_USAGE,
                        "--network: for a job on several hosts (--hosts, or a SLURM job); here ranks use shared memory");
  out->one_host = !slurm && !request->hosts;
  int64_t cores = gd_machine_cores();
  /* On other hosts and in an allocation the slots are counted there. */
  out->oversubscribed = out->one_host && out->ranks > cores;
  if (slurm && srun_speaks_pmix()) {
    GD_TRY(add_srun(request, out));
  } else {
    char path[4096];
    if (!gd_run_find_in_path("mpirun", path, sizeof path)) {
      return gd_fail_user(GD_USAGE, "mpirun: found no such program in PATH; launch/install-deps installs Open MPI");
    }
    GD_TRY(add_mpirun(request, out, each));
  }
  return add_program(request, out);
}

void gd_run_line_print(const gd_run_line *line, char *out, size_t bytes) {
  size_t used = 0;
  out[0] = 0;
  for (int i = 0; i < line->words && used < bytes; i++) {
    const char *word = line->word[i];
    bool plain =
        *word && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%") == strlen(word);
    used += (size_t)snprintf(out + used, bytes - used, "%s%s", i ? " " : "", plain ? word : "'");
    if (plain) continue;
    for (const char *p = word; *p && used < bytes; p++) {
      used += (size_t)snprintf(out + used, bytes - used, *p == '\'' ? "'\\''" : "%c", *p);
    }
    if (used < bytes) used += (size_t)snprintf(out + used, bytes - used, "'");
  }
}
