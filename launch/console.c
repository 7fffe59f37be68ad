/* console.c - log lines and the progress line on stderr, results on stdout. */
#include "launch/console.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One console a process. The lock orders the sink, the progress line and the log file. */
static struct {
  pthread_mutex_t lock;
  const char *program;
  int rank;
  bool everyone;       /* GPTDIST_DEBUG */
  gd_session *session; /* warnings go there, too; NULL: none */
  bool terminal;
  size_t drawn; /* columns of the progress line that stands there */
  FILE *file;
} console = {.lock = PTHREAD_MUTEX_INITIALIZER, .program = "gptdist"};

static void write_file_line(const char *line) {
  if (!console.file) return;
  struct timespec now;
  struct tm parts;
  char stamp[32];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &parts);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
  fprintf(console.file, "%s.%03ldZ %s\n", stamp, now.tv_nsec / 1000000, line);
  fflush(console.file);
}

static void erase_progress(void) {
  if (console.drawn) fprintf(stderr, "\r%*s\r", (int)console.drawn, "");
  console.drawn = 0;
}

static void sink(void *context, gd_log_level level, const char *line) {
  (void)context;
  static const char *const words[] = {"debug: ", "", "warning: ", "error: "};
  pthread_mutex_lock(&console.lock);
  write_file_line(line);
  /* Whoever tells of a fatal end speaks for the job: that is not rank 0 where rank 0 is lost. */
  if (console.everyone || level == GD_LOG_ERROR || (console.rank == 0 && level != GD_LOG_DEBUG)) {
    erase_progress();
    if (console.everyone) fprintf(stderr, "[%d] ", console.rank);
    fprintf(stderr, "%s%s%s%s\n", level == GD_LOG_INFO ? "" : console.program, level == GD_LOG_INFO ? "" : ": ", words[level],
            line);
  }
  if (console.session && level == GD_LOG_WARNING && !console.everyone) gd_session_warn(console.session, line);
  pthread_mutex_unlock(&console.lock);
}

/* Else the next file that is opened takes the number of one that was closed (2>&-), and log lines go into it. To write there
 * still fails. */
static void open_standard_files(void) {
  int file;
  while ((file = open("/dev/null", O_RDONLY)) >= 0 && file <= STDERR_FILENO) continue;
  if (file >= 0) close(file);
}

void gd_console_open(const char *program, int rank) {
  open_standard_files();
  signal(SIGXFSZ, SIG_IGN); /* a limit on files (ulimit -f) is a full disk, no reason to die */
  const char *debug = getenv("GPTDIST_DEBUG");
  pthread_mutex_lock(&console.lock);
  console.program = program;
  console.rank = rank;
  console.everyone = debug && *debug && strcmp(debug, "0") != 0;
  console.terminal = isatty(STDERR_FILENO) == 1 || getenv("GPTDIST_TERMINAL"); /* set by gptdist-run: mpirun passes text on */
  pthread_mutex_unlock(&console.lock);
  gd_log_set_sink(sink, 0);
}

void gd_console_connect(gd_session *session) {
  pthread_mutex_lock(&console.lock);
  console.session = session;
  pthread_mutex_unlock(&console.lock);
}

gd_status gd_console_log_file(const char *path) {
  FILE *file = fopen(path, "ae");
  if (!file) return gd_fail(GD_IO, "%s: %s", path, strerror(errno));
  pthread_mutex_lock(&console.lock);
  if (console.file) fclose(console.file);
  console.file = file;
  pthread_mutex_unlock(&console.lock);
  return GD_OK;
}

void gd_console_progress(const char *line) {
  pthread_mutex_lock(&console.lock);
  write_file_line(line);
  if (console.rank == 0 && console.terminal) {
    size_t length = strlen(line);
    fprintf(stderr, "\r%s", line);
    if (length < console.drawn) fprintf(stderr, "%*s", (int)(console.drawn - length), "");
    console.drawn = length;
    fflush(stderr);
  } else if (console.rank == 0) {
    fprintf(stderr, "%s\n", line);
  }
  pthread_mutex_unlock(&console.lock);
}

double gd_console_progress_seconds(void) {
  pthread_mutex_lock(&console.lock);
  double seconds = console.terminal ? 0.5 : 10;
  pthread_mutex_unlock(&console.lock);
  return seconds;
}

void gd_console_finish_progress(void) {
  pthread_mutex_lock(&console.lock);
  if (console.drawn) fputc('\n', stderr);
  console.drawn = 0;
  pthread_mutex_unlock(&console.lock);
}

/* Results that the system did not take are no success. */
static gd_status check_output(gd_status status) {
  int fault = fflush(stdout) ? errno : 0;
  if ((!fault && !ferror(stdout)) || (status != GD_OK && status != GD_NO)) return status;
  return gd_fail_user(GD_IO, "standard output: %s", fault ? strerror(fault) : "the system refused a part of it");
}

int gd_console_leave(gd_status status, bool alone) {
  status = check_output(status);
  gd_console_finish_progress();
  if (status != GD_OK && status != GD_NO && (console.rank == 0 || alone || console.everyone)) {
    const char *text = gd_error_text(), *place = console.everyone ? gd_error_place() : "";
    fprintf(stderr, "%s: %s%s%s%s%s\n", console.program, gd_error_whose(), *text ? text : gd_status_name(status),
            *place ? " [" : "", place, *place ? "]" : "");
    if (status == GD_BUG && !*place) fprintf(stderr, "  an error of gptdist itself; GPTDIST_DEBUG=1 shows where\n");
  }
  pthread_mutex_lock(&console.lock);
  if (status != GD_OK) write_file_line(gd_error_text());
  char line[sizeof((gd_error *)0)->place + 16];
  snprintf(line, sizeof line, "raised at %s", gd_error_place());
  if (status != GD_OK && *gd_error_place()) write_file_line(line);
  pthread_mutex_unlock(&console.lock);
  return (int)status;
}

void gd_console_close(void) {
  gd_console_finish_progress();
  gd_log_set_sink(0, 0);
  pthread_mutex_lock(&console.lock);
  if (console.file) fclose(console.file);
  console.file = 0;
  pthread_mutex_unlock(&console.lock);
}
