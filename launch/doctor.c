/* doctor.c - gptdist-run --doctor: is this machine fit to train. */
#include "launch/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/machine.h"
#include "comm/session.h"
#include "launch/run_line.h"

enum { MIB = 1 << 20, RANKS_DEADLINE_S = 60, PAIRS_PER_S = 10, WATCHDOG_S = 30 };

static void check_machine(int64_t ranks) {
  int64_t cores = gd_machine_cores();
  double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
  gd_doctor_finding(true, "machine", "%lld cores, %.1f GiB of memory", (long long)cores, memory / 1073741824.0);
  struct statvfs shared;
  if (statvfs("/dev/shm", &shared) != 0) {
    gd_doctor_finding(false, "shm", "/dev/shm: %s; ranks on one host talk through it", strerror(errno));
    return;
  }
  double room = (double)shared.f_bavail * (double)shared.f_frsize / MIB;
  /* Open MPI takes about 4 MiB a rank. */
  bool enough = room >= 4.0 * (double)ranks + 8.0;
  gd_doctor_finding(enough, "shm", "%.0f MiB free in /dev/shm%s", room, enough ? "" : "; too little (docker: --shm-size)");
}

/* What a checkpoint does: write, flush to the disk, rename, flush the folder. */
static void check_folder(const char *folder) {
  char path[4096], renamed[4096];
  static char block[MIB];
  int n = snprintf(path, sizeof path, "%s/.gptdist-doctor-%d.tmp", folder, (int)getpid());
  int m = snprintf(renamed, sizeof renamed, "%s/.gptdist-doctor-%d", folder, (int)getpid());
  if (n < 0 || m < 0 || (size_t)n >= sizeof path) {
    gd_doctor_finding(false, "folder", "%.200s...: the name is too long", folder);
    return;
  }
  double start = gd_machine_seconds();
  const char *failed = "open";
  int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), directory = -1;
  bool good = file >= 0;
  if (good) failed = "write", good = write(file, block, sizeof block) == (ssize_t)sizeof block;
  if (good) failed = "fsync", good = fsync(file) == 0;
  if (good) failed = "rename", good = rename(path, renamed) == 0;
  if (good) failed = "open the folder", directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), good = directory >= 0;
  if (good) failed = "fsync the folder", good = fsync(directory) == 0;
  int reason = errno;
  double took = gd_machine_seconds() - start;
  if (file >= 0) close(file);
  if (directory >= 0) close(directory);
  unlink(path);
  unlink(renamed);
  if (good) {
    gd_doctor_finding(true, "folder", "%s: written, forced to the disk and renamed in %.0f ms", folder, 1e3 * took);
  } else {
    gd_doctor_finding(false, "folder", "%s: %s: %s", folder, failed, strerror(reason));
  }
}

static void check_disk(const char *folder) {
  struct statvfs disk;
  if (statvfs(folder, &disk) != 0) return; /* the folder's own finding says so */
  double gib = (double)disk.f_bavail * (double)disk.f_frsize / 1073741824.0;
  /* A checkpoint of 124M parameters with fp32 moments is 1.5 GB. */
  gd_doctor_finding(gib >= 2.0, "disk", "%.1f GiB free%s", gib, gib >= 2.0 ? "" : "; a checkpoint takes 12 bytes a parameter");
  if (disk.f_files && !disk.f_favail) gd_doctor_finding(false, "disk", "no free inodes");
}

/* Each rank is one of a pair with each other one. */
static int64_t deadline_s(int64_t ranks) {
  return RANKS_DEADLINE_S + ranks / PAIRS_PER_S;
}

/* Runs the ranks; -1 when they did not end in time. */
static int run_ranks(const gd_run_line *line) {
  double limit = (double)deadline_s(line->ranks);
  fflush(0);
  pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) {
    setpgid(0, 0);
    execvp(line->word[0], line->word);
    _exit(127);
  }
  for (double start = gd_machine_seconds(); gd_machine_seconds() - start < limit;) {
    int status;
    if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    struct timespec nap = {.tv_nsec = 20000000};
    nanosleep(&nap, 0);
  }
  kill(child, SIGTERM); /* mpirun ends its ranks */
  struct timespec patience = {.tv_sec = 3};
  nanosleep(&patience, 0);
  kill(-child, SIGKILL);
  waitpid(child, 0, 0);
  return -1;
}

gd_status gd_doctor(int64_t ranks, const char *hosts, const char *network, const char *folder, bool json) {
  gd_doctor_report_as(json);
  static gd_run_line line;
  static char text[GD_RUN_TEXT_BYTES], own[4096], program[5000];
  check_machine(ranks);
  check_folder(folder);
  check_disk(folder);
  gd_machine_folder(own, sizeof own);
  snprintf(program, sizeof program, "%sgptdist-run", own);
  char *words[] = {program, "--doctor-rank", "--folder", (char *)folder, "--json"};
  gd_run_request request = {
      .ranks = hosts ? 0 : ranks, .hosts = hosts, .network = network, .words = json ? 5 : 4, .word = words};
  gd_status status = gd_run_line_build(&request, &line);
  if (status != GD_OK) {
    gd_doctor_finding(false, "mpi", "%s", gd_error_text());
    return GD_NO;
  }
  double start = gd_machine_seconds();
  int code = run_ranks(&line);
  if (code == 0) {
    gd_doctor_finding(true, "mpi", "%lld ranks started, talked and ended in %.1f s", (long long)line.ranks,
                      gd_machine_seconds() - start);
  } else {
    gd_run_line_print(&line, text, sizeof text);
    if (code < 0) {
      gd_doctor_finding(false, "mpi", "%lld ranks did not end within %lld s; the line was: %s", (long long)line.ranks,
                        (long long)deadline_s(line.ranks), text);
    } else {
      gd_doctor_finding(false, "mpi", "%lld ranks left with %d%s; the line was: %s", (long long)line.ranks, code,
                        code == GD_NO ? ": a check of theirs is bad, or they could not be started" : "", text);
    }
  }
  return gd_doctor_bad() ? GD_NO : GD_OK;
}

/* Rank 0 makes a file, all look for it: a folder that is not shared cannot hold a run. */
static gd_status check_shared_folder(gd_session *session, const char *folder) {
  char path[4096] = "";
  int32_t rank = gd_session_rank(session), ranks = gd_session_ranks(session);
  if (rank == 0) {
    int n = snprintf(path, sizeof path, "%s/.gptdist-doctor-shared-%d", folder, (int)getpid());
    int file = n > 0 && (size_t)n < sizeof path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file >= 0) close(file);
  }
  GD_TRY(gd_session_broadcast(session, path, sizeof path, 0));
  uint8_t seen = access(path, F_OK) == 0;
  uint8_t *everyone = calloc((size_t)ranks, 1);
  if (!everyone) return gd_fail(GD_NO_MEMORY, "out of memory");
  gd_status status = gd_session_all_gather(session, &seen, everyone, 1);
  if (rank == 0) unlink(path);
  int32_t blind = 0;
  for (int32_t r = 0; r < ranks; r++) blind += !everyone[r];
  free(everyone);
  GD_TRY(status);
  if (rank == 0) {
    gd_doctor_finding(blind == 0, "shared", "%d of %d ranks see a file that rank 0 made in %s", (int)(ranks - blind),
                      (int)ranks, folder);
  }
  return GD_OK;
}

/* One stray connection that says too little stops Open MPI, so on one host nothing may listen. */
static gd_status check_ports(gd_session *session) {
  int32_t ranks = gd_session_ranks(session), mine = gd_doctor_ports(), open = 0;
  int32_t *everyone = calloc((size_t)ranks, sizeof *everyone);
  if (!everyone) return gd_fail(GD_NO_MEMORY, "out of memory");
  gd_status status = gd_session_all_gather(session, &mine, everyone, sizeof mine);
  for (int32_t r = 0; r < ranks; r++) open += everyone[r] > 0;
  free(everyone);
  if (status != GD_OK || gd_session_rank(session) != 0) return status;
  const char *transports = getenv("OMPI_MCA_btl");
  bool one_host = gd_session_local_ranks(session) == ranks;
  if (!open)
    gd_doctor_finding(true, "ports", "no rank listens to the network");
  else if (one_host)
    gd_doctor_finding(
        false, "ports",
        "%d of %d ranks on this host listen to the network, and a stray connection can stop them; Open MPI's transports are "
        "\"%s\", expected \"self,vader\"",
        (int)open, (int)ranks, transports ? transports : "");
  else
    gd_doctor_finding(
        true, "ports",
        "%d of %d ranks listen on all addresses of their hosts, as Open MPI between hosts does; a stray connection can stop "
        "them, so let only the job's hosts reach them (a firewall, a private network)",
        (int)open, (int)ranks);
  return GD_OK;
}

static gd_status check_device(gd_session *session, gd_device **device) {
  static gd_spec spec; /* run.device auto is 0 */
  GD_TRY(gd_session_open_device(session, &spec, device));
  if (gd_session_rank(session) == 0) gd_doctor_finding(true, "device", "%s", (*device)->description);
  return GD_OK;
}

static gd_status check_rank(gd_session *session, const char *folder, bool json) {
  gd_device *device;
  gd_session_set_watchdog(session, WATCHDOG_S);
  GD_TRY(check_ports(session));
  GD_TRY(check_shared_folder(session, folder));
  GD_TRY(check_device(session, &device));
  GD_TRY(gd_doctor_links(session, device, json));
  return gd_doctor_devices(session, device, json);
}

gd_status gd_doctor_rank(const char *folder, bool json) {
  gd_doctor_report_as(json);
  gd_session *session;
  GD_TRY(gd_session_open(&session));
  gd_status status = check_rank(session, folder, json);
  if (status != GD_OK) gd_session_abort(session, status, gd_error_text());
  gd_session_close(session);
  return gd_doctor_bad() ? GD_NO : GD_OK;
}
