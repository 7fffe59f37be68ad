/* The control channel's wire without MPI: strangers stay out, messages arrive whole, a missing rank is named; and what the
 * session reads from the launcher's environment. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/control.h"
#include "comm/session.h"

static gd_control_invitation invitation;
static int joined[3];

static void *join_as(void *argument) {
  int32_t rank = *(int32_t *)argument;
  if (gd_control_connect(&invitation, rank, 5000, &joined[rank]) != GD_OK) joined[rank] = -1;
  return NULL;
}

/* Connects and says something that is not the key. */
static void *intrude(void *argument) {
  (void)argument;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  char noise[36];
  memset(noise, 0, sizeof noise);
  noise[32] = 1; /* rank 1 */
  if (connect(s, (struct sockaddr *)&invitation.address[0], sizeof(struct sockaddr_in)) != 0) return NULL;
  if (send(s, noise, sizeof noise, MSG_NOSIGNAL) != (ssize_t)sizeof noise) return NULL;
  ssize_t got = recv(s, noise, sizeof noise, 0); /* hung up without a word */
  close(s);
  return got <= 0 ? argument : NULL;
}

static void strangers_stay_out_and_messages_arrive_whole(void **state) {
  (void)state;
  gd_control_listener listener;
  assert_int_equal(gd_control_listen(true, &listener, &invitation), GD_OK);
  pthread_t stranger, one, two;
  int32_t first = 1, second = 2;
  int sockets[3], token;
  void *turned_away = NULL;
  pthread_create(&stranger, NULL, intrude, &token);
  pthread_create(&one, NULL, join_as, &first);
  pthread_create(&two, NULL, join_as, &second);
  assert_int_equal(gd_control_accept(&listener, &invitation, 3, 20000, sockets), GD_OK);
  pthread_join(one, NULL);
  pthread_join(two, NULL);
  pthread_join(stranger, &turned_away);
  /* The stranger may also have come too late: then the listener was closed, and it did not get in either. */
  assert_true(turned_away == NULL || turned_away == &token);
  assert_true(joined[1] >= 0 && joined[2] >= 0);

  static gd_message_reader reader;
  unsigned char body[GD_CONTROL_BODY_BYTES];
  gd_message_header header;
  const void *got;
  for (size_t i = 0; i < sizeof body; i++) body[i] = (unsigned char)i;
  assert_int_equal(gd_message_read(sockets[2], &reader, &header, &got), 0);
  static const size_t sizes[] = {0, 1, 500, GD_CONTROL_BODY_BYTES};
  for (size_t i = 0; i < 4; i++) assert_true(gd_message_send(joined[2], GD_MESSAGE_AGREE, body, sizes[i], false));
  for (size_t i = 0; i < 4; i++) {
    int found;
    while ((found = gd_message_read(sockets[2], &reader, &header, &got)) == 0) usleep(1000);
    assert_int_equal(found, 1);
    assert_int_equal(header.type, GD_MESSAGE_AGREE);
    assert_int_equal(header.bytes, sizes[i]);
    assert_memory_equal(got, body, sizes[i]);
  }
  assert_false(gd_message_send(joined[2], GD_MESSAGE_AGREE, body, GD_CONTROL_BODY_BYTES + 1, false));
  /* Nonsense and a closed connection both end it. */
  memset(body, 0xFF, 8);
  assert_int_equal(send(joined[2], body, 8, MSG_NOSIGNAL), 8);
  usleep(20000);
  assert_int_equal(gd_message_read(sockets[2], &reader, &header, &got), -1);
  close(joined[1]);
  memset(&reader, 0, sizeof reader);
  usleep(20000);
  assert_int_equal(gd_message_read(sockets[1], &reader, &header, &got), -1);
  close(joined[2]);
  close(sockets[1]);
  close(sockets[2]);
}

static gd_control_listener waiting;
static int met[2];

static void *accept_one(void *argument) {
  return gd_control_accept(&waiting, &invitation, 2, 20000, met) == GD_OK ? argument : NULL;
}

/* Says a key and a rank; whether a welcome came back. */
static bool let_in(const uint8_t *key, int32_t rank) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  struct {
    uint8_t key[GD_CONTROL_KEY_BYTES];
    int32_t rank;
  } hello = {.rank = rank};
  int32_t welcome = -1;
  memcpy(hello.key, key, sizeof hello.key);
  assert_int_equal(connect(s, (struct sockaddr *)&invitation.address[0], sizeof(struct sockaddr_in)), 0);
  assert_int_equal(send(s, &hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
  bool in = recv(s, &welcome, sizeof welcome, MSG_WAITALL) == (ssize_t)sizeof welcome && welcome == rank;
  close(s);
  return in;
}

/* One after the other, while rank 0 still waits for rank 1: a key with one wrong bit anywhere, and the right key with the
 * number of a rank that the job has not. */
static void only_the_key_and_a_rank_of_the_job_open(void **state) {
  (void)state;
  pthread_t rank_0;
  void *good = NULL;
  assert_int_equal(gd_control_listen(true, &waiting, &invitation), GD_OK);
  pthread_create(&rank_0, NULL, accept_one, &waiting);
  for (int bit = 0; bit < 8 * GD_CONTROL_KEY_BYTES; bit += 37) {
    uint8_t key[GD_CONTROL_KEY_BYTES];
    memcpy(key, invitation.key, sizeof key);
    key[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_false(let_in(key, 1));
  }
  const int32_t strange[] = {-1, 0, 2, 1000000};
  for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) assert_false(let_in(invitation.key, strange[i]));
  assert_true(let_in(invitation.key, 1));
  pthread_join(rank_0, &good);
  assert_ptr_equal(good, &waiting);
  close(met[1]);
}

/* Five kinds: silent, one byte, nonsense as long as a hello, HTTP, gone at once. */
static int stranger(int kind) {
  static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a scanner of ports\r\n\r\n";
  int s = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(connect(s, (struct sockaddr *)&invitation.address[0], sizeof(struct sockaddr_in)), 0);
  if (kind == 1) assert_int_equal(send(s, "x", 1, MSG_NOSIGNAL), 1);
  if (kind == 2) assert_int_equal(send(s, http, GD_CONTROL_KEY_BYTES + sizeof(int32_t), MSG_NOSIGNAL), 36);
  if (kind == 3) assert_int_equal(send(s, http, sizeof http - 1, MSG_NOSIGNAL), sizeof http - 1);
  if (kind == 4) close(s);
  return kind == 4 ? -1 : s;
}

static int joined_of_3[3];
static gd_status joined_status;
static void *accept_three(void *argument) {
  joined_status = gd_control_accept(&waiting, &invitation, 3, 20000, joined_of_3);
  return argument;
}

/* 200 of them are there before the ranks, which come in all the same: none waits for what a stranger does not say. */
static void strangers_cost_the_ranks_nothing(void **state) {
  (void)state;
  enum { STRANGERS = 200 };
  int held[STRANGERS];
  pthread_t rank_0, one, two;
  int32_t first = 1, second = 2;
  assert_int_equal(gd_control_listen(true, &waiting, &invitation), GD_OK);
  for (int i = 0; i < STRANGERS; i++) held[i] = stranger(i % 5);
  pthread_create(&rank_0, NULL, accept_three, NULL);
  pthread_create(&one, NULL, join_as, &first);
  pthread_create(&two, NULL, join_as, &second);
  pthread_join(one, NULL);
  pthread_join(two, NULL);
  pthread_join(rank_0, NULL);
  assert_int_equal(joined_status, GD_OK);
  assert_true(joined[1] >= 0 && joined[2] >= 0);
  for (int i = 0; i < STRANGERS; i++) {
    char byte;
    if (held[i] < 0) continue;
    assert_true(recv(held[i], &byte, 1, 0) <= 0); /* hung up without a word */
    close(held[i]);
  }
  for (int i = 1; i < 3; i++) close(joined[i]), close(joined_of_3[i]);
}

/* Nor does it help them to take all descriptors: who keeps silent makes way. */
static void strangers_cannot_take_the_last_descriptor(void **state) {
  (void)state;
  enum { STRANGERS = 20 };
  int held[STRANGERS];
  pthread_t rank_0;
  struct rlimit before, few;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  assert_int_equal(gd_control_listen(true, &waiting, &invitation), GD_OK);
  for (int i = 0; i < STRANGERS; i++) held[i] = stranger(i % 2);
  int mine = socket(AF_INET, SOCK_STREAM, 0), lowest = dup(0);
  struct {
    uint8_t key[GD_CONTROL_KEY_BYTES];
    int32_t rank;
  } hello = {.rank = 1};
  memcpy(hello.key, invitation.key, sizeof hello.key);
  assert_int_equal(connect(mine, (struct sockaddr *)&invitation.address[0], sizeof(struct sockaddr_in)), 0);
  assert_int_equal(send(mine, &hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
  close(lowest);
  few = (struct rlimit){.rlim_cur = (rlim_t)lowest + 4, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
  void *good = NULL;
  pthread_create(&rank_0, NULL, accept_one, &waiting);
  pthread_join(rank_0, &good);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_ptr_equal(good, &waiting);
  int32_t welcome = -1;
  assert_int_equal(recv(mine, &welcome, sizeof welcome, MSG_WAITALL), sizeof welcome);
  assert_int_equal(welcome, 1);
  close(mine);
  close(met[1]);
  for (int i = 0; i < STRANGERS; i++) close(held[i]);
}

static void the_chosen_network_alone_is_offered(void **state) {
  (void)state;
  gd_control_listener listener;
  if (gd_control_listen(false, &listener, &invitation) != GD_OK) skip(); /* a machine without a network */
  const struct sockaddr_in *v4 = (const void *)&invitation.address[0];
  for (int32_t i = 0; i < listener.count; i++) close(listener.sockets[i]);
  if (v4->sin_family != AF_INET) skip();
  char network[64];
  uint32_t address = v4->sin_addr.s_addr;
  snprintf(network, sizeof network, "nowhere,%s/32", inet_ntoa(v4->sin_addr));
  setenv("GPTDIST_NETWORK", network, 1);
  assert_int_equal(gd_control_listen(false, &listener, &invitation), GD_OK);
  assert_int_equal(listener.count, 1);
  v4 = (const void *)&invitation.address[0];
  assert_int_equal(v4->sin_addr.s_addr, address);
  close(listener.sockets[0]);
  setenv("GPTDIST_NETWORK", "nowhere,240.0.0.0/4", 1); /* no host has one of these */
  gd_status status = gd_control_listen(false, &listener, &invitation);
  unsetenv("GPTDIST_NETWORK");
  assert_int_equal(status, GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "no address of this host is in \"nowhere,240.0.0.0/4\""));
  gd_error_clear();
}

/* A header that announces more than a message may have, or a kind that there is not. */
static void a_header_that_cannot_be_ends_the_connection(void **state) {
  (void)state;
  const gd_message_header strange[] = {
      {GD_MESSAGE_AGREE, GD_CONTROL_BODY_BYTES + 1}, {GD_MESSAGE_AGREE, UINT32_MAX}, {GD_MESSAGE_BYE + 1, 0}, {UINT32_MAX, 0}};
  for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
    static gd_message_reader reader;
    gd_message_header header;
    const void *body;
    int ends[2];
    memset(&reader, 0, sizeof reader);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(send(ends[0], &strange[i], sizeof strange[i], MSG_NOSIGNAL), sizeof strange[i]);
    assert_int_equal(gd_message_read(ends[1], &reader, &header, &body), -1);
    close(ends[0]);
    close(ends[1]);
  }
}

static void a_rank_that_does_not_come_is_named(void **state) {
  (void)state;
  gd_control_listener listener;
  int sockets[3];
  assert_int_equal(gd_control_listen(true, &listener, &invitation), GD_OK);
  assert_int_equal(gd_control_accept(&listener, &invitation, 3, 1000, sockets), GD_RANK_FAILED);
  assert_non_null(strstr(gd_error_text(), "ranks 1 2 did not reach"));
  assert_int_equal(gd_control_connect(&invitation, 1, 1000, sockets), GD_RANK_FAILED);
  assert_non_null(strstr(gd_error_text(), "cannot reach rank 0's control channel (127.0.0.1 port"));
  gd_error_clear();
}

/* A thousand ranks need a thousand descriptors: one that rank 0 cannot open is named as such, not as a rank that did not come.
 */
static void a_rank_that_no_descriptor_is_left_for_is_no_missing_rank(void **state) {
  (void)state;
  gd_control_listener listener;
  int sockets[3];
  int first = 1;
  assert_int_equal(gd_control_listen(true, &listener, &invitation), GD_OK);
  pthread_t one;
  pthread_create(&one, NULL, join_as, &first);
  struct rlimit before, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  int lowest = dup(0); /* the number that the next connection would get */
  close(lowest);
  usleep(500000); /* the other side has its socket by now */
  none = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  assert_int_equal(gd_control_accept(&listener, &invitation, 3, 3000, sockets), GD_IO);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_non_null(strstr(gd_error_text(), "1 of 3 ranks and cannot open one more connection: Too many open files"));
  gd_error_clear();
  pthread_join(one, NULL);
}

static void without_loopback_the_host_s_own_addresses_are_offered(void **state) {
  (void)state;
  gd_control_listener listener;
  if (gd_control_listen(false, &listener, &invitation) != GD_OK) skip(); /* a machine without a network */
  for (int32_t i = 0; i < listener.count; i++) {
    const struct sockaddr_in *v4 = (const void *)&invitation.address[i];
    if (v4->sin_family == AF_INET) assert_int_not_equal(v4->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    close(listener.sockets[i]);
  }
}

/* Launchers. */

static const char *const names[] = {"OMPI_COMM_WORLD_RANK",
                                    "OMPI_COMM_WORLD_SIZE",
                                    "OMPI_COMM_WORLD_LOCAL_RANK",
                                    "OMPI_COMM_WORLD_LOCAL_SIZE",
                                    "PMIX_RANK",
                                    "PMI_RANK",
                                    "PMI_SIZE",
                                    "SLURM_NTASKS",
                                    "SLURM_PROCID",
                                    "SLURM_LOCALID",
                                    "SLURM_STEP_TASKS_PER_NODE",
                                    "SLURM_STEP_NUM_TASKS",
                                    "MPI_LOCALRANKID",
                                    "MPI_LOCALNRANKS"};

static void expect(const char *settings, int rank, int ranks, int local_rank, int local_ranks) {
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
  char copy[256], *rest = copy, *pair;
  snprintf(copy, sizeof copy, "%s", settings);
  while ((pair = strsep(&rest, " ")))
    if (*pair) {
      char *value = strchr(pair, '=');
      *value++ = 0;
      setenv(pair, value, 1);
    }
  gd_launch_environment found;
  gd_session_environment(&found);
  assert_int_equal(found.rank, rank);
  assert_int_equal(found.ranks, ranks);
  assert_int_equal(found.local_rank, local_rank);
  assert_int_equal(found.local_ranks, local_ranks);
}

static void every_launcher_is_understood(void **state) {
  (void)state;
  expect("", 0, 1, 0, 1);
  expect("OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=4 PMIX_RANK=5",
         5, 8, 1, 4);
  expect("PMIX_RANK=3 SLURM_NTASKS=6 SLURM_LOCALID=1 SLURM_STEP_TASKS_PER_NODE=2(x3)", 3, 6, 1, 2);
  expect("PMI_RANK=2 PMI_SIZE=4 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=2", 2, 4, 0, 2);
  /* A plain start inside a batch script. */
  expect("SLURM_NTASKS=16 SLURM_PROCID=0 SLURM_LOCALID=0", 0, 1, 0, 1);
  expect("OMPI_COMM_WORLD_RANK=9 OMPI_COMM_WORLD_SIZE=4", 0, 1, 0, 1);
  expect("OMPI_COMM_WORLD_RANK=x OMPI_COMM_WORLD_SIZE=4", 0, 1, 0, 1);
}

static void tasks_that_nothing_connects_are_refused(void **state) {
  (void)state;
  static const char *const alone[] = {
      "SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=2 SLURM_LOCALID=2", /* srun --mpi=none */
      "OMPI_COMM_WORLD_RANK=9 OMPI_COMM_WORLD_SIZE=4"};
  for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
    gd_session *session = NULL;
    expect(alone[i], 0, 1, 0, 1);
    assert_int_equal(gd_session_open(&session), GD_USAGE);
    assert_non_null(strstr(gd_error_text(), "this is one of 4 tasks"));
    assert_non_null(strstr(gd_error_text(), "srun --mpi=pmix"));
    gd_error_clear();
  }
  /* One task, a batch script, one rank of mpirun inside a step of several tasks, a rank of Open MPI under srun. */
  static const char *const fine[] = {"SLURM_NTASKS=1 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0", "SLURM_NTASKS=16 SLURM_PROCID=0",
                                     "SLURM_STEP_NUM_TASKS=4 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1",
                                     "SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1 PMIX_RANK=0"};
  for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
    gd_session *session = NULL;
    expect(fine[i], 0, 1, 0, 1);
    assert_int_equal(gd_session_open(&session), GD_OK);
    gd_session_close(session);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strangers_stay_out_and_messages_arrive_whole),
      cmocka_unit_test(only_the_key_and_a_rank_of_the_job_open),
      cmocka_unit_test(strangers_cost_the_ranks_nothing),
      cmocka_unit_test(strangers_cannot_take_the_last_descriptor),
      cmocka_unit_test(the_chosen_network_alone_is_offered),
      cmocka_unit_test(a_header_that_cannot_be_ends_the_connection),
      cmocka_unit_test(a_rank_that_does_not_come_is_named),
      cmocka_unit_test(a_rank_that_no_descriptor_is_left_for_is_no_missing_rank),
      cmocka_unit_test(without_loopback_the_host_s_own_addresses_are_offered),
      cmocka_unit_test(every_launcher_is_understood),
      cmocka_unit_test(tasks_that_nothing_connects_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
