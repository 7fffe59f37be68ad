/* ranks: 1 2 4 */
/* The session among healthy ranks; and, with arguments, the scenes of tests/fault/test_session_faults.sh: one rank does
 * something terrible in the middle of a run of collectives. "two-SCENE": the rank after it, too.
 *   test_session SCENE RANK WATCHDOG_S */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/session.h"
#include "shard/base/log.h"
#include "shard/base/progress.h"

static gd_session *session;
static int32_t rank, ranks;

static void all_ranks_well_agree_on_ok(void **state) {
  (void)state;
  for (int i = 0; i < 20; i++) assert_int_equal(gd_session_agree(session, GD_OK), GD_OK);
}

static void one_rank_s_fault_reaches_everybody_with_its_text(void **state) {
  (void)state;
  for (int32_t bad = 0; bad < ranks; bad++) {
    gd_status mine = rank == bad ? gd_fail_user(GD_IO, "disk of rank %d is full", bad) : GD_OK;
    assert_int_equal(gd_session_agree(session, mine), GD_IO);
    char text[64];
    snprintf(text, sizeof text, "disk of rank %d is full", bad);
    assert_string_equal(gd_error_text(), text);
    gd_error_clear();
  }
}

static void the_lowest_rank_wins(void **state) {
  (void)state;
  gd_status mine = gd_fail_user(rank % 2 ? GD_IO : GD_BAD_DATA, "from rank %d", rank);
  assert_int_equal(gd_session_agree(session, mine), GD_BAD_DATA);
  assert_string_equal(gd_error_text(), "from rank 0");
  gd_error_clear();
  assert_int_equal(gd_session_agree(session, GD_OK), GD_OK);
}

static void a_long_text_survives(void **state) {
  (void)state;
  char text[1900];
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = 0;
  gd_status mine = rank == ranks - 1 ? gd_fail_user(GD_USAGE, "%s", text) : GD_OK;
  assert_int_equal(gd_session_agree(session, mine), GD_USAGE);
  assert_string_equal(gd_error_text(), text);
  gd_error_clear();
}

static void host_memory_moves_before_a_device_is_open(void **state) {
  (void)state;
  int64_t all[64];
  for (int32_t root = 0; root < ranks; root++) {
    int64_t value[3] = {rank, rank * 10, rank * 100};
    assert_int_equal(gd_session_broadcast(session, value, sizeof value, root), GD_OK);
    assert_int_equal(value[2], root * 100);
  }
  int64_t mine = rank * 7;
  assert_int_equal(gd_session_all_gather(session, &mine, all, sizeof mine), GD_OK);
  for (int32_t r = 0; r < ranks; r++) assert_int_equal(all[r], r * 7);
  assert_int_equal(gd_session_barrier(session), GD_OK);
}

static char last_line[512];

static void keep_line(void *context, gd_log_level level, const char *line) {
  (void)context;
  if (level == GD_LOG_INFO) snprintf(last_line, sizeof last_line, "%s", line);
}

static void the_session_says_once_which_device(void **state) {
  (void)state;
  gd_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.run.device = GD_DEVICE_AUTO;
  gd_device *device;
  gd_log_set_sink(keep_line, NULL);
  assert_int_equal(gd_session_open_device(session, &spec, &device), GD_OK);
  gd_log_set_sink(NULL, NULL);
  assert_int_equal(strncmp(last_line, "device: ", 8) == 0, rank == 0);
  if (!gd_session_cuda_kernels(session) && rank == 0) assert_non_null(strstr(last_line, "CPU"));
}

static void local_ranks_are_counted(void **state) {
  (void)state;
  assert_true(gd_session_local_rank(session) < gd_session_local_ranks(session));
  int32_t mine = gd_session_local_ranks(session), all[64];
  assert_int_equal(gd_session_all_gather(session, &mine, all, sizeof mine), GD_OK);
  assert_true(gd_session_host(session)[0] != 0);
}

/* Scenes. */

static void print_line(void *context, gd_log_level level, const char *line) {
  (void)context;
  fprintf(stderr, "%s rank %d: %s\n", level == GD_LOG_DEBUG ? "DEBUG" : "LOG", rank, line);
}

static bool stop_between_peers;

/* Where asked for, this process is stopped as soon as it knows that rank 3 has said something, and nothing of the ranks before.
 */
int poll(struct pollfd *entries, nfds_t n, int milliseconds) {
  struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  int ready = ppoll(entries, n, milliseconds < 0 ? NULL : &wait, NULL);
  if (stop_between_peers && ready > 0 && n == 5 && entries[3].revents) {
    stop_between_peers = false;
    entries[1].revents = entries[2].revents = 0;
    raise(SIGSTOP);
  }
  return ready;
}

/* A rank that computes for a long time, a piece after the other. */
static void work(int seconds) {
  for (int i = 0; i < 5 * seconds; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    gd_progress();
  }
}

static bool dead_disk;

static void exit_hook(void *context, gd_status code, const char *text) {
  (void)context;
  if (dead_disk) nanosleep(&(struct timespec){.tv_sec = 300}, NULL);
  fprintf(stderr, "HOOK rank %d: code %d, %s\n", rank, (int)code, text);
}

static void ignore(int number) {
  (void)number;
}

static volatile sig_atomic_t enough;

static void stop_well(int number) {
  (void)number;
  enough = 1;
}

/* Everybody is well. */
static _Noreturn void leave_well(const char *text) {
  if (rank == 0) fprintf(stderr, "LOG rank 0: %s\n", text);
  gd_session_close(session);
  exit(0);
}

static gd_status sleep_long(void *arguments) {
  (void)arguments;
  nanosleep(&(struct timespec){.tv_sec = 300}, NULL);
  return GD_OK;
}

static void misbehave(const char *scene, gd_device *device) {
  if (!strcmp(scene, "kill")) raise(SIGKILL);
  if (!strcmp(scene, "stop")) raise(SIGSTOP);
  if (!strcmp(scene, "stop-between")) {
    stop_between_peers = true;
    (void)sleep_long(NULL);
  }
  if (!strcmp(scene, "exit")) _exit(3);
  if (!strcmp(scene, "sleep")) (void)sleep_long(NULL);
  if (!strcmp(scene, "hang-in-task") &&
      device->ops->enqueue(device->communication, "long_sum", sleep_long, NULL, 0, NULL, 0) != GD_OK)
    gd_session_abort(session, GD_BUG, gd_error_text());
  if (!strcmp(scene, "slow")) work(8);
  if (!strcmp(scene, "abort") || !strcmp(scene, "dead-disk")) gd_session_abort(session, GD_BAD_DATA, "the corpus is broken");
  if (!strcmp(scene, "abort-unheard")) { /* two ranks: who is to be told does not listen */
    if (gd_session_rank(session) == 0) raise(SIGSTOP);
    sleep(1);
    gd_session_abort(session, GD_BAD_DATA, "the corpus is broken");
  }
  if (!strcmp(scene, "fault")) {
    gd_status status = gd_fail(GD_IO, "the disk is gone");
    gd_session_abort(session, status, gd_error_text());
  }
}

/* Twenty good steps, then one rank misbehaves while the others sit in an all_gather or in an agreement. */
static gd_status play(const char *scene, int32_t who) {
  gd_mesh mesh;
  gd_device *device;
  gd_group *world;
  gd_spec spec = {.run.device = GD_DEVICE_CPU};
  GD_TRY(gd_mesh_init(&mesh, ranks, 1, 1, 1));
  GD_TRY(gd_session_open_device(session, &spec, &device));
  gd_log_set_sink(print_line, NULL);
  GD_TRY(gd_session_group(session, &mesh, GD_MASK_WORLD, &world));
  gd_session_set_exit_hook(session, exit_hook, NULL);
  bool in_agree = !strncmp(scene, "agree-", 6), everyone = !strcmp(scene, "everyone-aborts");
  if (in_agree) scene += 6;
  bool two = !strncmp(scene, "two-", 4);
  if (two) scene += 4;
  dead_disk = !strcmp(scene, "dead-disk");
  bool pause = !strcmp(scene, "pause");
  signal(SIGUSR1, stop_well);
  for (int64_t step = 0; step < 1000000; step++) {
    int64_t all[64];
    gd_session_progress(session, "forward", step);
    if (step == 20 && everyone) {
      gd_status status = gd_session_agree(session, rank == who ? gd_fail_user(GD_IO, "disk of rank %d is full", rank) : GD_OK);
      gd_session_abort(session, status, gd_error_text());
    }
    if (step == 20 && !strcmp(scene, "late-kill")) { /* between two beats, just after another message of this rank */
      if (rank == who) nanosleep(&(struct timespec){.tv_nsec = 600000000}, NULL);
      GD_TRY(gd_session_agree(session, GD_OK));
      if (rank == who) raise(SIGKILL);
    }
    if (step == 20 && (rank == who || (two && rank == who + 1))) misbehave(scene, device);
    if (step == 60 && !strcmp(scene, "slow")) leave_well("a slow rank was waited for");
    if (step == 20 && pause && rank == 0) fprintf(stderr, "READY %d\n", (int)getpid());
    if (step == 20 && in_agree) GD_TRY(gd_session_agree(session, GD_OK));
    gd_session_progress(session, "backward", step);
    int64_t mine = enough ? -1 : step;
    GD_TRY(world->ops->all_gather(world, device->communication, &mine, all, sizeof mine));
    GD_TRY(device->ops->stream_sync(device->communication));
    if (all[0] < 0) leave_well("everybody went on");
  }
  return GD_OK;
}

/* tests/unit/test_device_choice.sh: what the session says about the device, and how it refuses. */
static int choose_device(bool cuda) {
  gd_spec spec;
  memset(&spec, 0, sizeof spec);
  spec.run.device = cuda ? GD_DEVICE_CUDA : GD_DEVICE_AUTO;
  gd_device *device;
  gd_log_set_sink(print_line, NULL);
  gd_status status = gd_session_open_device(session, &spec, &device);
  if (status != GD_OK) gd_session_abort(session, status, gd_error_text());
  gd_session_close(session);
  return 0;
}

static int run_scene(char **arguments) {
  if (!strcmp(arguments[1], "device")) return choose_device(!strcmp(arguments[2], "cuda"));
  /* As gptdist-train does: when a rank dies, mpirun sends TERM to the others at once and KILL a second later. Without a handler
   * the one rank that reports races with TERM, and on a busy machine the report is lost. */
  signal(SIGTERM, ignore);
  gd_session_set_watchdog(session, atoi(arguments[3]));
  gd_status status = play(arguments[1], atoi(arguments[2]));
  gd_session_abort(session, status, gd_error_text());
}

int main(int count, char **arguments) {
  if (gd_session_open(&session) != GD_OK) {
    fprintf(stderr, "%s\n", gd_error_text());
    return 1;
  }
  rank = gd_session_rank(session);
  ranks = gd_session_ranks(session);
  if (count == 4) return run_scene(arguments);
  gd_session_set_watchdog(session, 60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_ranks_well_agree_on_ok),
      cmocka_unit_test(one_rank_s_fault_reaches_everybody_with_its_text),
      cmocka_unit_test(the_lowest_rank_wins),
      cmocka_unit_test(a_long_text_survives),
      cmocka_unit_test(host_memory_moves_before_a_device_is_open),
      cmocka_unit_test(the_session_says_once_which_device),
      cmocka_unit_test(local_ranks_are_counted),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  gd_session_close(session);
  return failed;
}
