/* gptdist_run.c - gptdist-run: starts a job of ranks, watches it, starts it again after a fault, hands it back to SLURM. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/base/json.h"
#include "launch/console.h"
#include "launch/doctor.h"
#include "launch/exit_file.h"
#include "launch/options.h"
#include "launch/run_line.h"
#include "launch/run_progress.h"
#include "launch/run_watch.h"
#include "launch/signals.h"

static const char more[] =
    "The program is looked for beside gptdist-run. Ctrl-C, TERM or USR1 once: the job finishes its step, saves and leaves with "
    "75;\n"
    "the same again 5 s later: it is stopped at once.\n"
    "With --max-restarts a job that lost a rank, a device or a disk (76, 71, 74, a signal) is started again and resumes from "
    "its\n"
    "last checkpoint, N times without a new one. In a SLURM job, srun is used where it speaks PMIx, and 75 asks for a "
    "requeue,\n"
    "until 3 of them brought no new step.\n"
    "It leaves with the job's own exit code: what RUN/exit.json says before what mpirun says.";

/* What one start of the job came to. */
typedef struct outcome {
  int code;
  gd_exit_file_state said; /* by RUN/exit.json */
  char reason[512];
} outcome;

typedef struct exit_file {
  char directory[GD_PATH_BYTES];
  char path[GD_PATH_BYTES + 16]; /* "" when the job has no run directory */
  gd_bytes before;               /* what stood there before this start */
} exit_file;

enum {
  HOLD_MS = 10000, /* from a request to stop to its way to ranks that have given no sign of life: there may be none here */
  LEAVE_MS = 2000, /* from the ranks' last chance to the end of mpirun */
  KILL_MS = 10000, /* mpirun and srun have ended all that they could */
};

static int stop_signal; /* the first INT, TERM or USR1 */
static int64_t held_ms; /* since when it waits for ranks that can hear it; 0: it does not */

/* The run directory as the job itself will read it: --config, --set run.directory, --run-directory. A mistake in them is the
 * job's to report. */
static void find_exit_file(const gd_run_request *request, exit_file *out) {
  memset(out, 0, sizeof *out);
  const char *name = strrchr(request->word[0], '/');
  name = name ? name + 1 : request->word[0];
  if (strcmp(name, "gptdist-train") != 0) return;
  static gd_spec spec;
  const char *config = 0;
  gd_config_override directory = {"--set", "run.directory", 0};
  static const char *const looks_only[] = {"--dry-run", "--help", "-h", "--help-config", "--version"};
  for (int i = 1; i < request->words; i++) {
    const char *word = request->word[i], *next = i + 1 < request->words ? request->word[i + 1] : "";
    for (size_t l = 0; l < sizeof looks_only / sizeof *looks_only; l++)
      if (strcmp(word, looks_only[l]) == 0) return;
    if (strcmp(word, "--config") == 0) config = next;
    if (strncmp(word, "--config=", 9) == 0) config = word + 9;
    if (strcmp(word, "--set") == 0 && strncmp(next, "run.directory=", 14) == 0) directory.value = next + 14;
    if (strncmp(word, "--set=run.directory=", 20) == 0) directory.value = word + 20;
    if (strcmp(word, "--run-directory") == 0) directory.value = next;
    if (strncmp(word, "--run-directory=", 16) == 0) directory.value = word + 16;
  }
  if (gd_config_load(config, &directory, directory.value != 0, &spec, 0) != GD_OK) {
    gd_error_clear();
    return;
  }
  if (!spec.run.directory[0]) return;
  snprintf(out->directory, sizeof out->directory, "%s", spec.run.directory);
  snprintf(out->path, sizeof out->path, "%s/exit.json", spec.run.directory);
}

/* Before each start: its ranks write this mark into exit.json, and rehearse faults in the first start alone. */
static gd_status mark_start(int64_t before) {
  char host[40] = "", mark[80], number[24];
  snprintf(number, sizeof number, "%lld", (long long)before);
  if (setenv(GD_LAUNCH_RESTART, number, 1) != 0) return gd_fail(GD_IO, "setenv: %s", strerror(errno));
  gethostname(host, sizeof host - 1);
  snprintf(mark, sizeof mark, "%s-%d-%.0f", host, (int)getpid(), 1e3 * gd_machine_seconds());
  return setenv(GD_LAUNCH_MARK, mark, 1) == 0 ? GD_OK : gd_fail(GD_IO, "setenv: %s", strerror(errno));
}

static void watched_signals(sigset_t *set) {
  sigemptyset(set);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGUSR1);
  sigaddset(set, SIGCHLD);
}

static _Noreturn void become(const gd_run_line *line, pid_t parent) {
  /* Its own process group: a Ctrl-C reaches gptdist-run only, for mpirun would end the ranks without letting them save. */
  setpgid(0, 0);
  /* Should gptdist-run be killed, the job saves and leaves: of TERM mpirun would make a KILL within seconds. */
  prctl(PR_SET_PDEATHSIG, SIGUSR1);
  if (getppid() != parent) _exit(GD_IO);
  if (isatty(STDIN_FILENO) == 1) { /* a background group may not read the terminal */
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0) dup2(null, STDIN_FILENO);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, 0);
  execvp(line->word[0], line->word);
  fprintf(stderr, "gptdist-run: %s: %s\n", line->word[0], strerror(errno));
  _exit(errno == ENOENT ? GD_USAGE : GD_IO);
}

/* First: mpirun and srun hand USR1 to every rank, once the ranks can hear it (pass_on_held()). Second: USR1 again makes the
 * ranks leave, and TERM a while later mpirun or srun end those that do not. Third: no more patience. SLURM signals the ranks
 * and gptdist-run, perhaps more than once, for one request: only the same signal 5 s later is a second one. */
static void pass_on(pid_t child, int number, int64_t now, int *stops) {
  bool again = gd_signals_again(number);
  if (*stops > 0 && !again) {
    if (number == SIGINT) gd_log(GD_LOG_INFO, "stopping already (Ctrl-C 5 s after the first: stop at once)");
    return;
  }
  if (!stop_signal) stop_signal = number;
  *stops += 1;
  if (*stops == 1) {
    gd_log(GD_LOG_INFO, "stopping: the job finishes its step and saves (the same signal again, 5 s later: stop at once)");
    held_ms = now;
  } else if (*stops == 2) {
    held_ms = 0;
    gd_log(GD_LOG_INFO, "stopping at once");
    kill(child, SIGUSR1);
  } else {
    kill(-child, SIGKILL);
  }
}

/* mpirun drops a USR1 that comes before it has started all ranks, and a rank that has not yet said what to do with one dies of
 * it. */
static void pass_on_held(pid_t child, const gd_run_watch *watch, int64_t now) {
  if (held_ms == 0 || (watch->socket >= 0 && !watch->heard && now - held_ms < HOLD_MS)) return;
  kill(child, SIGUSR1);
  held_ms = 0;
}

/* mpirun wakes its ranks, asks and kills them; srun does what it is told. What does not end is killed here. */
static void end_by_force(pid_t child, int64_t now, int64_t *asked_ms) {
  if (*asked_ms == 0) {
    kill(child, SIGTERM);
    kill(child, SIGCONT);
    *asked_ms = now;
  } else if (now - *asked_ms >= KILL_MS) {
    kill(-child, SIGKILL);
  }
}

/* srun may leave with 0 when it could not start a task and gave up waiting for its step. Who trains to an end says so; only
 * what a rank on this host wrote is surely seen here at once, and in a batch job rank 0 is here. */
static bool is_unproved(const gd_run_line *line, const exit_file *file, const outcome *result) {
  return line->srun && getenv("SLURMD_NODENAME") && *file->path && result->code == 0 && result->said != GD_EXIT_FILE_ENDED;
}

enum { EXIT_FILE_LIMIT = 65536 };

static void look_before(exit_file *file) {
  gd_bytes_free(&file->before);
  file->before = (gd_bytes){0};
  if (*file->path && gd_file_exists(file->path) && gd_file_read(file->path, EXIT_FILE_LIMIT, &file->before) != GD_OK)
    gd_error_clear();
}

/* What this start came to, over what it or, where its ranks did not come so far, an earlier one has written. */
static void write_over(const exit_file *file, const outcome *result) {
  if (*file->path && !gd_exit_file_overrule(file->path, getenv(GD_LAUNCH_MARK), result->code, result->reason))
    gd_exit_file_replace(file->directory, &file->before, result->code, result->reason);
}

static gd_status run_once(const gd_run_line *line, exit_file *file, outcome *out) {
  static int stops; /* counted over restarts: who asked twice is not asked again */
  static int64_t starts;
  int64_t leaves_ms = 0, asked_ms = 0;
  bool was_over = false;
  gd_run_watch watch;
  memset(out, 0, sizeof *out);
  GD_TRY(mark_start(starts++));
  look_before(file);
  gd_run_watch_open(&watch, getenv(GD_LAUNCH_MARK), gd_machine_now_ms());
  sigset_t watched;
  watched_signals(&watched);
  if (sigprocmask(SIG_BLOCK, &watched, 0) != 0) return gd_fail(GD_IO, "sigprocmask: %s", strerror(errno));
  fflush(0);
  pid_t parent = getpid(), child = fork();
  if (child < 0) return gd_fail(GD_IO, "fork: %s", strerror(errno));
  if (child == 0) become(line, parent);
  int wait_status;
  for (;;) {
    pid_t ended = waitpid(child, &wait_status, WNOHANG);
    if (ended == child) break;
    if (ended < 0) return gd_fail(GD_IO, "waitpid: %s", strerror(errno));
    struct timespec pause = {.tv_sec = GD_RUN_WATCH_TICK_MS / 1000, .tv_nsec = GD_RUN_WATCH_TICK_MS % 1000 * 1000000};
    int number = sigtimedwait(&watched, 0, &pause);
    int64_t now = gd_machine_now_ms();
    if (number == SIGINT || number == SIGTERM || number == SIGUSR1) pass_on(child, number, now, &stops);
    if (stops == 2 && leaves_ms == 0) leaves_ms = now + LEAVE_MS;
    if (!*out->reason && gd_run_watch_is_silent(&watch, now, out->reason, sizeof out->reason))
      gd_log(GD_LOG_ERROR, "%s; ending the job", out->reason);
    if (!*out->reason && line->one_host && *file->path && gd_run_watch_is_empty(&watch, child, now)) {
      snprintf(out->reason, sizeof out->reason, "%s runs no rank and has not ended: they were killed while they started",
               line->word[0]);
      gd_log(GD_LOG_ERROR, "%s; ending the job", out->reason);
    }
    pass_on_held(child, &watch, now);
    if (*out->reason || (leaves_ms && now >= leaves_ms)) end_by_force(child, now, &asked_ms);
    if (gd_run_watch_is_over(&watch, now) && !was_over) {
      gd_log(GD_LOG_WARNING, "the ranks have left and %s waits for a host that it cannot reach: ending it", line->word[0]);
      kill(-child, SIGKILL); /* asked to end, mpirun waits on */
      was_over = true;
    }
  }
  gd_run_watch_close(&watch);
  out->code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
  if (was_over) out->code = GD_RANK_FAILED;
  if (*out->reason) {
    out->code = GD_RANK_FAILED;
    out->said = GD_EXIT_FILE_ENDED;
    write_over(file, out);
    return GD_OK;
  }
  /* What the job says itself: mpirun's code is the first non-zero one it saw, or its own opinion of a signal. */
  if (*file->path)
    out->said = gd_exit_file_read(file->path, getenv(GD_LAUNCH_MARK), &out->code, out->reason, sizeof out->reason);
  if (is_unproved(line, file, out)) {
    out->code = GD_RANK_FAILED;
    out->said = GD_EXIT_FILE_ENDED;
    snprintf(out->reason, sizeof out->reason,
             "srun left with 0, but no rank said that it was done: SLURM could not start them all");
    gd_log(GD_LOG_ERROR, "%s", out->reason);
    write_over(file, out);
  }
  return GD_OK;
}

/* Faults of machines, which another start may outlive; a user's mistake, bad data or our own bug would only come again. */
static bool is_worth_a_restart(const outcome *result) {
  return result->code == GD_RANK_FAILED || result->code == GD_NO_MEMORY || result->code == GD_IO || result->code >= 128;
}

/* Waits, unless somebody wants to stop. */
static void pause_before_restart(int64_t seconds) {
  sigset_t watched;
  watched_signals(&watched);
  sigdelset(&watched, SIGCHLD);
  struct timespec pause = {.tv_sec = seconds};
  int number = sigtimedwait(&watched, 0, &pause);
  if (number > 0) stop_signal = number;
}

/* What SLURM says of this job; "" where it says nothing. */
static void find_job_state(const char *job, char state[32]) {
  static const char key[] = "JobState=";
  char command[128], line[4096];
  state[0] = 0;
  snprintf(command, sizeof command, "scontrol -o show job '%.64s' 2>/dev/null", job);
  FILE *pipe = popen(command, "re");
  while (pipe && fgets(line, sizeof line, pipe)) {
    const char *at = strstr(line, key);
    if (at) snprintf(state, 32, "%.*s", (int)strcspn(at + sizeof key - 1, " \n"), at + sizeof key - 1);
  }
  if (pipe) pclose(pipe);
}

static void ask_for_requeue(const char *job) {
  pid_t child = fork();
  if (child == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    execlp("scontrol", "scontrol", "requeue", job, (char *)0);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) {
    gd_log(GD_LOG_WARNING, "scontrol requeue %s did not work (the job may be pending already)", job);
  } else {
    gd_log(GD_LOG_INFO, "asked SLURM to start job %s again", job);
  }
}

/* Why a job ended that could not say it itself. mpirun and srun have codes of their own behind those of the signals. */
static void guess_reason(int code, char out[256]) {
  if (code > 128 && code - 128 < SIGRTMIN)
    snprintf(out, 256, "a rank was ended by signal %d (%s), or a host was lost", code - 128, strsignal(code - 128));
  else if (code > 128)
    snprintf(out, 256, "mpirun or srun lost a host, or could not start the ranks there");
  else
    snprintf(out, 256, "the job left with %d before rank 0 could say why", code);
}

/* A job that SLURM has ended is its own business: cancelled it must stay so, preempted or requeued it comes again by itself. */
static void hand_back(const char *directory) {
  const char *job = getenv("SLURM_JOB_ID");
  char state[32];
  int64_t step = gd_run_newest_step(directory);
  find_job_state(job, state);
  if (*state && strcmp(state, "RUNNING") != 0)
    gd_log(GD_LOG_INFO, "SLURM ends job %s itself (%s), and is not asked to start it again", job, state);
  else if (gd_run_may_requeue(directory, job, step))
    ask_for_requeue(job);
  else
    gd_log(
        GD_LOG_ERROR,
        "SLURM is not asked to start job %s again: %d requeues brought no step behind %lld (a time limit shorter than start, "
        "step and save?); the same command goes on from there",
        job, GD_RUN_IDLE_REQUEUES, (long long)(step < 0 ? 0 : step));
}

/* Starts are counted since the last one that brought a new checkpoint: a job that gets on may lose a machine every day. */
static gd_status run_until_done(const gd_run_request *request, const gd_run_line *line, int64_t max_restarts, int64_t pause_s,
                                int *code) {
  static exit_file file;
  outcome result;
  char reason[256];
  find_exit_file(request, &file);
  int64_t newest = gd_run_newest_step(file.directory);
  for (int64_t restarts = 0;; restarts++) {
    GD_TRY(run_once(line, &file, &result));
    *code = result.code;
    if (stop_signal && result.said != GD_EXIT_FILE_ENDED && result.code != 0 && result.code != GD_REQUEUE)
      *code = 128 + stop_signal;
    if (result.said != GD_EXIT_FILE_ENDED) {
      guess_reason(result.code, reason);
      if (result.code > 128 && !stop_signal) gd_log(GD_LOG_ERROR, "the job left with %d: %s", result.code, reason);
    }
    if (result.said == GD_EXIT_FILE_RUNNING) gd_exit_file_complete(file.path, getenv(GD_LAUNCH_MARK), *code, reason);
    if (result.said == GD_EXIT_FILE_NONE && *code && *file.path)
      gd_exit_file_replace(file.directory, &file.before, *code, reason);
    int64_t before = newest;
    newest = gd_run_newest_step(file.directory);
    if (newest > before) restarts = 0;
    if (stop_signal || restarts >= max_restarts || !is_worth_a_restart(&result)) break;
    gd_log(GD_LOG_WARNING, "the job left with %d%s%s; starting it again in %lld s (restart %lld of %lld%s)", result.code,
           *result.reason ? ": " : "", result.reason, (long long)pause_s, (long long)(restarts + 1), (long long)max_restarts,
           file.directory[0] ? " without a new checkpoint" : "");
    pause_before_restart(pause_s);
    if (stop_signal) break;
  }
  if (*code == GD_REQUEUE && getenv("SLURM_JOB_ID") && stop_signal != SIGINT) hand_back(file.directory);
  return GD_OK;
}

typedef struct arguments {
  int64_t ranks, max_restarts, pause_s, start_s;
  const char *hosts, *network, *folder;
  bool print, doctor, doctor_rank;
} arguments;

static gd_status print_line(const gd_run_line *words, bool json) {
  static char text[65536];
  gd_run_line_print(words, text, sizeof text);
  if (!json) {
    puts(text);
    return GD_OK;
  }
  gd_bytes out = {0};
  gd_status status = gd_bytes_printf(&out, "{\"line\": ");
  if (status == GD_OK) status = gd_json_quote(&out, text, strlen(text));
  for (int i = 0; status == GD_OK && i < words->words; i++) {
    status = gd_bytes_printf(&out, i ? ", " : ", \"words\": [");
    if (status == GD_OK) status = gd_json_quote(&out, words->word[i], strlen(words->word[i]));
  }
  if (status == GD_OK) printf("%s]}\n", out.bytes);
  gd_bytes_free(&out);
  return status;
}

static gd_status run(int argc, char **argv, int *code) {
  arguments a = {.pause_s = 5, .start_s = -1};
  const gd_option options[] = {
      {"-n", GD_OPTION_INTEGER, &a.ranks, "N", "ranks (default: all of --hosts, of the SLURM job, or 1)", 1, 1048576},
      {"--hosts", GD_OPTION_TEXT, &a.hosts, "A,B:4", "hosts, each with its number of ranks", 0, 0},
      {"--network", GD_OPTION_TEXT, &a.network, "NAME|A.B.C.D/N",
       "what carries the traffic between hosts (default: all networks)", 0, 0},
      {"--max-restarts", GD_OPTION_INTEGER, &a.max_restarts, "N",
       "starts in a row after faults, counted anew at each new checkpoint (default 0)", 0, 1000000},
      {"--restart-pause", GD_OPTION_SECONDS, &a.pause_s, "T", "before each of them (default 5s)", 0, 0},
      {"--start-deadline", GD_OPTION_SECONDS, &a.start_s, "T",
       "a job whose ranks do not all reach MPI_Init in this time ends with 76 (default 5m; 0: never)", 0, 0},
      {"--print", GD_OPTION_FLAG, &a.print, 0, "print the line that would be run, and stop", 0, 0},
      {"--doctor", GD_OPTION_FLAG, &a.doctor, 0, "check MPI, devices, links, folder and disk; exit 1 when something is wrong",
       0, 0},
      {"--folder", GD_OPTION_TEXT, &a.folder, "DIR", "the folder that --doctor checks (default: here)", 0, 0},
      {"--doctor-rank", GD_OPTION_FLAG, &a.doctor_rank, 0, "one rank of the check (--doctor starts it)", 0, 0},
      {0, 0, 0, 0, 0, 0, 0},
  };
  const gd_program program = {
      .name = "gptdist-run",
      .purpose = "starts, watches and restarts a job of ranks",
      .usage = "[-n N] [--hosts A,B:4] [--network NAME] [--max-restarts N] [--print] [--doctor] -- PROGRAM [ARGUMENT...]",
      .more = more,
      .options = options,
      .takes_arguments = true,
      .stops_at_argument = true};
  static gd_command_line line;
  bool done;
  GD_TRY(gd_options_parse(&program, argc, argv, &line, &done));
  if (done) return GD_OK;
  if (a.doctor_rank) return gd_doctor_rank(a.folder ? a.folder : ".", line.json);
  if (a.doctor) return gd_doctor(a.ranks ? a.ranks : 2, a.hosts, a.network, a.folder ? a.folder : ".", line.json);
  if (line.arguments == 0)
    return gd_fail_user(GD_USAGE, "found no program to run, expected: gptdist-run -n 4 -- gptdist-train ...");
  if (isatty(STDERR_FILENO) == 1 && setenv("GPTDIST_TERMINAL", "1", 0) != 0)
    return gd_fail(GD_IO, "setenv: %s", strerror(errno));
  char seconds[24];
  snprintf(seconds, sizeof seconds, "%lld", (long long)a.start_s);
  if (a.start_s >= 0 && setenv("GPTDIST_START_DEADLINE", seconds, 1) != 0) return gd_fail(GD_IO, "setenv: %s", strerror(errno));
  gd_run_request request = {
      .ranks = a.ranks, .hosts = a.hosts, .network = a.network, .words = line.arguments, .word = line.argument};
  static gd_run_line words;
  if (!a.print) GD_TRY(mark_start(0)); /* mpirun carries only what is there */
  GD_TRY(gd_run_line_build(&request, &words));
  if (a.print) return print_line(&words, line.json);
  return run_until_done(&request, &words, a.max_restarts, a.pause_s, code);
}

int main(int argc, char **argv) {
  gd_console_open("gptdist-run", 0);
  int code = 0;
  gd_status status = run(argc, argv, &code);
  if (status != GD_OK || code == 0) code = gd_console_leave(status, true);
  gd_console_close();
  return code;
}
