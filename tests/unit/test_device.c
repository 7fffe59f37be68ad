/* The devices in host memory: streams keep order, events order streams, faults come back with their text, and the lazy and the
 * eager device show a wait that was forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/device_guard.h"

enum { N = 1000, CPU = 0, LAZY, EAGER, DEVICES };

static gd_device devices[DEVICES];
static gd_status (*const openers[DEVICES])(gd_device *) = {gd_device_open_cpu, gd_device_open_lazy, gd_device_open_eager};

typedef struct append_arguments {
  int *list, *used, value, pause_ms;
} append_arguments;

static gd_status append(void *arguments) {
  append_arguments *a = arguments;
  if (a->pause_ms) nanosleep(&(struct timespec){.tv_nsec = a->pause_ms * 1000000L}, NULL);
  a->list[(*a->used)++] = a->value;
  a->value = -1; /* only the private copy */
  return GD_OK;
}

static gd_status fail_task(void *arguments) {
  return gd_fail_user(GD_BAD_DATA, "planted fault %d", *(int *)arguments);
}

static void ok(gd_status status) {
  if (status != GD_OK) fail_msg("%s", gd_error_text());
}

static void streams_run_in_order(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++) {
    gd_device *device = &devices[d];
    gd_stream *streams[3] = {device->compute, device->communication, NULL};
    ok(device->ops->stream_create(device, &streams[2]));
    for (int s = 0; s < 3; s++) {
      int list[N], used = 0;
      for (int i = 0; i < N; i++) {
        append_arguments a = {list, &used, i, 0};
        ok(device->ops->enqueue(streams[s], "append", append, &a, sizeof a, NULL, 0));
        assert_int_equal(a.value, i);
      }
      ok(device->ops->stream_sync(streams[s]));
      assert_int_equal(used, N);
      for (int i = 0; i < N; i++) assert_int_equal(list[i], i);
    }
    device->ops->stream_destroy(streams[2]);
  }
}

static void copies_and_fills_arrive(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++) {
    gd_device *device = &devices[d];
    void *memory, *host;
    ok(device->ops->alloc(device, 5000, &memory));
    ok(device->ops->alloc_host(device, 5000, &host));
    assert_int_equal((uintptr_t)memory % 4096, 0);
    memset(host, 3, 5000);
    ok(device->ops->fill(device->compute, memory, 7, 5000));
    ok(device->ops->copy(device->compute, memory, host, 100, GD_COPY_HOST_TO_DEVICE));
    ok(device->ops->copy(device->compute, host, memory, 5000, GD_COPY_DEVICE_TO_HOST));
    ok(device->ops->copy(device->compute, memory, memory, 0, GD_COPY_DEVICE_TO_DEVICE));
    ok(device->ops->stream_sync(device->compute));
    const unsigned char *p = host;
    for (int i = 0; i < 5000; i++) assert_int_equal(p[i], i < 100 ? 3 : 7);
    device->ops->free(device, memory);
    device->ops->free_host(device, host);
  }
}

static void an_impossible_allocation_says_so(void **state) {
  (void)state;
  void *memory;
  assert_int_equal(devices[0].ops->alloc(&devices[0], SIZE_MAX / 4, &memory), GD_NO_MEMORY);
  assert_non_null(strstr(gd_error_text(), "GiB"));
  gd_error_clear();
}

/* The communication stream is slow; compute waits for its event and must see all of it. Then the other way round. */
static void an_event_orders_two_streams(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++) {
    gd_device *device = &devices[d];
    gd_event *event;
    ok(device->ops->event_create(device, &event));
    ok(device->ops->stream_wait(device->compute, event)); /* never recorded: passed */
    int list[64], used = 0;
    for (int i = 0; i < 32; i++) { /* the event is used again and again */
      append_arguments a = {list, &used, 2 * i, i < 3 ? 5 : 0}, b = {list, &used, 2 * i + 1, 0};
      ok(device->ops->enqueue(device->communication, "append", append, &a, sizeof a, NULL, 0));
      ok(device->ops->event_record(event, device->communication));
      ok(device->ops->stream_wait(device->compute, event));
      ok(device->ops->enqueue(device->compute, "append", append, &b, sizeof b, NULL, 0));
      ok(device->ops->event_record(event, device->compute));
      ok(device->ops->stream_wait(device->communication, event));
    }
    ok(device->ops->event_sync(event));
    ok(device->ops->stream_sync(device->compute));
    assert_int_equal(used, 64);
    for (int i = 0; i < 64; i++) assert_int_equal(list[i], i);
    device->ops->event_destroy(event);
    ok(device->ops->stream_sync(device->communication));
  }
}

/* Two streams of which neither is the compute stream: the second waits for the first, which is slow. */
static void an_event_orders_two_other_streams(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++) {
    gd_device *device = &devices[d];
    gd_stream *third;
    gd_event *event;
    ok(device->ops->stream_create(device, &third));
    ok(device->ops->event_create(device, &event));
    int list[2], used = 0;
    append_arguments a = {list, &used, 1, 50}, b = {list, &used, 2, 0};
    ok(device->ops->enqueue(device->communication, "append", append, &a, sizeof a, NULL, 0));
    ok(device->ops->event_record(event, device->communication));
    ok(device->ops->stream_wait(third, event));
    ok(device->ops->enqueue(third, "append", append, &b, sizeof b, NULL, 0));
    ok(device->ops->stream_sync(third));
    assert_int_equal(used, 2);
    assert_int_equal(list[0], 1);
    assert_int_equal(list[1], 2);
    ok(device->ops->stream_sync(device->communication));
    device->ops->event_destroy(event);
    device->ops->stream_destroy(third);
  }
}

static void event_sync_waits_for_its_record_only(void **state) {
  (void)state;
  gd_device *device = &devices[LAZY];
  gd_event *event;
  ok(device->ops->event_create(device, &event));
  int list[2], used = 0;
  append_arguments a = {list, &used, 1, 0}, b = {list, &used, 2, 0};
  ok(device->ops->enqueue(device->communication, "append", append, &a, sizeof a, NULL, 0));
  ok(device->ops->event_record(event, device->communication));
  ok(device->ops->enqueue(device->communication, "append", append, &b, sizeof b, NULL, 0));
  ok(device->ops->event_sync(event));
  assert_int_equal(used, 1);
  device->ops->event_destroy(event);
  ok(device->ops->stream_sync(device->communication));
  assert_int_equal(used, 2);
}

/* A fault stays with its stream, skips what follows, and goes through events to the streams that wait. */
static void the_first_fault_comes_back_with_its_text(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++) {
    gd_device device;
    ok(openers[d](&device));
    gd_event *event;
    ok(device.ops->event_create(&device, &event));
    int one = 1, two = 2, list[4], used = 0;
    append_arguments a = {list, &used, 0, 0};
    ok(device.ops->enqueue(device.communication, "fail", fail_task, &one, sizeof one, NULL, 0));
    /* The fault may or may not be known yet: what comes after it is refused or skipped. */
    (void)!device.ops->enqueue(device.communication, "fail", fail_task, &two, sizeof two, NULL, 0);
    (void)!device.ops->enqueue(device.communication, "append", append, &a, sizeof a, NULL, 0);
    ok(device.ops->event_record(event, device.communication));
    gd_error_clear();
    assert_int_equal(device.ops->stream_sync(device.communication), GD_BAD_DATA);
    assert_string_equal(gd_error_text(), "planted fault 1");
    gd_error_clear();
    gd_status status = device.ops->stream_wait(device.compute, event);
    if (status == GD_OK) status = device.ops->stream_sync(device.compute);
    assert_int_equal(status, GD_BAD_DATA);
    assert_string_equal(gd_error_text(), "planted fault 1");
    assert_int_equal(device.ops->event_sync(event), GD_BAD_DATA);
    assert_int_equal(used, 0);
    device.ops->event_destroy(event);
    device.ops->close(&device);
  }
  gd_error_clear();
}

typedef struct look_arguments {
  const gd_stream *stream;
  const char **seen;
} look_arguments;

static gd_status look(void *arguments) {
  const look_arguments *a = arguments;
  *a->seen = gd_stream_running(a->stream);
  return GD_OK;
}

/* On the inline stream the outer task goes on after one that it enqueued. */
static gd_status look_inside(void *arguments) {
  look_arguments *a = arguments;
  const char *inner = NULL;
  look_arguments in = {a->stream, &inner};
  GD_TRY(a->stream->device->ops->enqueue((gd_stream *)(uintptr_t)a->stream, "inner", look, &in, sizeof in, NULL, 0));
  if (!inner || strcmp(inner, "inner") != 0) return gd_fail(GD_BUG, "the inner task is called %s", inner ? inner : "nothing");
  return look(arguments);
}

static void a_stream_says_which_task_it_runs(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++)
    for (int s = 0; s < 2; s++) {
      gd_stream *stream = s == 0 ? devices[d].compute : devices[d].communication;
      const char *seen = NULL;
      look_arguments a = {stream, &seen};
      assert_null(gd_stream_running(stream));
      ok(devices[d].ops->enqueue(stream, "look around", look, &a, sizeof a, NULL, 0));
      ok(devices[d].ops->stream_sync(stream));
      assert_string_equal(seen, "look around");
      assert_null(gd_stream_running(stream));
    }
  const char *seen = NULL;
  look_arguments a = {devices[CPU].compute, &seen};
  ok(devices[CPU].ops->enqueue(devices[CPU].compute, "outer", look_inside, &a, sizeof a, NULL, 0));
  assert_string_equal(seen, "outer");
}

static void arguments_above_the_limit_are_refused(void **state) {
  (void)state;
  static char big[513];
  for (int d = 0; d < DEVICES; d++)
    assert_int_equal(devices[d].ops->enqueue(devices[d].compute, "fail", fail_task, big, sizeof big, NULL, 0), GD_BUG);
  gd_error_clear();
}

/* Lazy only. */

static void nothing_runs_before_it_is_waited_for(void **state) {
  (void)state;
  gd_device *device = &devices[LAZY];
  int list[1], used = 0;
  append_arguments a = {list, &used, 5, 0};
  ok(device->ops->enqueue(device->compute, "append", append, &a, sizeof a, NULL, 0));
  ok(device->ops->stream_sync(device->communication));
  assert_int_equal(used, 0);
  ok(device->ops->stream_sync(device->compute));
  assert_int_equal(used, 1);
}

static void a_missing_wait_reads_nan(void **state) {
  (void)state;
  gd_device *device = &devices[LAZY];
  for (int with_wait = 0; with_wait < 2; with_wait++) {
    float source = 4, middle = 4, result = 4; /* stale bytes would look right */
    gd_event *event;
    ok(device->ops->event_create(device, &event));
    ok(device->ops->copy(device->communication, &middle, &source, sizeof middle, GD_COPY_DEVICE_TO_DEVICE));
    ok(device->ops->event_record(event, device->communication));
    if (with_wait) ok(device->ops->stream_wait(device->compute, event));
    ok(device->ops->copy(device->compute, &result, &middle, sizeof result, GD_COPY_DEVICE_TO_DEVICE));
    ok(device->ops->stream_sync(device->compute));
    assert_true(with_wait ? result == 4 : result != result);
    ok(device->ops->stream_sync(device->communication));
    device->ops->event_destroy(event);
  }
}

/* Within a stream, reuse of a buffer is legal: poison must not reach an operation that comes before. */
static void poison_keeps_the_order_of_a_stream(void **state) {
  (void)state;
  gd_device *device = &devices[LAZY];
  float a = 1, b = 2, first = 0, second = 0;
  ok(device->ops->copy(device->compute, &first, &a, sizeof a, GD_COPY_DEVICE_TO_DEVICE));
  ok(device->ops->copy(device->compute, &a, &b, sizeof a, GD_COPY_DEVICE_TO_DEVICE));
  ok(device->ops->copy(device->compute, &second, &a, sizeof a, GD_COPY_DEVICE_TO_DEVICE));
  assert_true(first != first); /* may run from now on */
  assert_true(a == 1);         /* behind `first` */
  ok(device->ops->stream_sync(device->compute));
  assert_true(first == 1);
  assert_true(second == 2);
}

/* Compute overwrites what the communication stream still has to send, without waiting for it. */
static void overwriting_what_another_stream_reads_shows(void **state) {
  (void)state;
  gd_device *device = &devices[LAZY];
  float payload = 1, sent = 0, next = 2;
  ok(device->ops->copy(device->communication, &sent, &payload, sizeof sent, GD_COPY_DEVICE_TO_DEVICE));
  ok(device->ops->copy(device->compute, &payload, &next, sizeof payload, GD_COPY_DEVICE_TO_DEVICE));
  ok(device->ops->stream_sync(device->communication));
  assert_true(sent != 1);
  ok(device->ops->stream_sync(device->compute));
}

/* Eager only. */

static void communication_runs_at_once_and_compute_when_it_is_waited_for(void **state) {
  (void)state;
  gd_device *device = &devices[EAGER];
  gd_stream *third;
  ok(device->ops->stream_create(device, &third));
  int list[4], used = 0;
  append_arguments a = {list, &used, 1, 0}, b = {list, &used, 2, 0}, c = {list, &used, 3, 0};
  ok(device->ops->enqueue(device->compute, "append", append, &a, sizeof a, NULL, 0));
  assert_int_equal(used, 0);
  ok(device->ops->enqueue(device->communication, "append", append, &b, sizeof b, NULL, 0));
  assert_int_equal(used, 1);
  ok(device->ops->enqueue(third, "append", append, &c, sizeof c, NULL, 0));
  assert_int_equal(used, 2);
  ok(device->ops->stream_sync(device->compute));
  assert_int_equal(used, 3);
  assert_int_equal(list[0], 2);
  assert_int_equal(list[1], 3);
  assert_int_equal(list[2], 1);
  device->ops->stream_destroy(third);
}

/* Compute makes a gradient that communication sends: without the wait, what is sent is not it. */
static void sending_before_it_is_made_shows(void **state) {
  (void)state;
  gd_device *device = &devices[EAGER];
  for (int with_wait = 0; with_wait < 2; with_wait++) {
    float made = 2, gradient = 1, sent = 0;
    gd_event *event;
    ok(device->ops->event_create(device, &event));
    ok(device->ops->copy(device->compute, &gradient, &made, sizeof gradient, GD_COPY_DEVICE_TO_DEVICE));
    ok(device->ops->event_record(event, device->compute));
    if (with_wait) ok(device->ops->stream_wait(device->communication, event));
    ok(device->ops->copy(device->communication, &sent, &gradient, sizeof sent, GD_COPY_DEVICE_TO_DEVICE));
    ok(device->ops->stream_sync(device->compute));
    assert_true(with_wait ? sent == 2 : sent != 2);
    assert_true(gradient == 2);
    device->ops->event_destroy(event);
  }
}

/* Communication overwrites what compute has not read yet. */
static void receiving_before_the_last_was_read_shows(void **state) {
  (void)state;
  gd_device *device = &devices[EAGER];
  float received = 1, second = 2, read = 0;
  ok(device->ops->copy(device->compute, &read, &received, sizeof read, GD_COPY_DEVICE_TO_DEVICE));
  ok(device->ops->copy(device->communication, &received, &second, sizeof received, GD_COPY_DEVICE_TO_DEVICE));
  ok(device->ops->stream_sync(device->compute));
  assert_true(read != 1);
}

/* One early stream lets the next go on, and both wait for compute. */
static void early_streams_wait_for_each_other(void **state) {
  (void)state;
  gd_device *device = &devices[EAGER];
  gd_stream *third;
  gd_event *computed, *sent;
  ok(device->ops->stream_create(device, &third));
  ok(device->ops->event_create(device, &computed));
  ok(device->ops->event_create(device, &sent));
  int list[3], used = 0;
  append_arguments a = {list, &used, 1, 0}, b = {list, &used, 2, 0}, c = {list, &used, 3, 0};
  ok(device->ops->enqueue(device->compute, "append", append, &a, sizeof a, NULL, 0));
  ok(device->ops->event_record(computed, device->compute));
  ok(device->ops->stream_wait(third, computed));
  ok(device->ops->enqueue(third, "append", append, &b, sizeof b, NULL, 0));
  ok(device->ops->event_record(sent, third));
  ok(device->ops->stream_wait(device->communication, sent));
  ok(device->ops->enqueue(device->communication, "append", append, &c, sizeof c, NULL, 0));
  assert_int_equal(used, 0);
  ok(device->ops->event_sync(computed));
  assert_int_equal(used, 3);
  for (int i = 0; i < 3; i++) assert_int_equal(list[i], i + 1);
  device->ops->event_destroy(computed);
  device->ops->event_destroy(sent);
  device->ops->stream_destroy(third);
}

static int open_devices(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++)
    if (openers[d](&devices[d]) != GD_OK) return 1;
  return 0;
}

static int close_devices(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++) devices[d].ops->close(&devices[d]);
  return 0;
}

/* In a process of its own: a write at `offset` of 1000 bytes, whose memory is then given back, or the device closed. Returns
 * its exit code. */
static int guarded(int d, int offset, bool give_back) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    gd_device device;
    char *memory = NULL;
    bool poisoned = true;
    setenv("GPTDIST_DEVICE_GUARD", "1", 1);
    if (!freopen("/dev/null", "w", stderr) || openers[d](&device) != GD_OK || gd_device_guard(&device) != GD_OK ||
        device.ops->alloc(&device, 1000, (void **)&memory) != GD_OK)
      _exit(99);
    for (int i = 0; i < 1000; i++) poisoned = poisoned && memory[i] == (char)0xFF;
    if (!poisoned || (uintptr_t)memory % 4096 || device.ops->fill(device.compute, memory + offset, 1, 1) != GD_OK) _exit(98);
    if (give_back) device.ops->free(&device, memory);
    device.ops->close(&device);
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void guards_find_what_is_written_outside(void **state) {
  (void)state;
  for (int d = 0; d < DEVICES; d++)
    for (int give_back = 0; give_back < 2; give_back++) {
      assert_int_equal(guarded(d, 0, give_back), 0);
      assert_int_equal(guarded(d, 999, give_back), 0);
      assert_int_equal(guarded(d, 1000, give_back), GD_BUG);
      assert_int_equal(guarded(d, 1000 + 4095, give_back), GD_BUG);
      assert_int_equal(guarded(d, -1, give_back), GD_BUG);
      assert_int_equal(guarded(d, -4096, give_back), GD_BUG);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(streams_run_in_order),
      cmocka_unit_test(copies_and_fills_arrive),
      cmocka_unit_test(an_impossible_allocation_says_so),
      cmocka_unit_test(an_event_orders_two_streams),
      cmocka_unit_test(an_event_orders_two_other_streams),
      cmocka_unit_test(event_sync_waits_for_its_record_only),
      cmocka_unit_test(the_first_fault_comes_back_with_its_text),
      cmocka_unit_test(a_stream_says_which_task_it_runs),
      cmocka_unit_test(arguments_above_the_limit_are_refused),
      cmocka_unit_test(nothing_runs_before_it_is_waited_for),
      cmocka_unit_test(a_missing_wait_reads_nan),
      cmocka_unit_test(poison_keeps_the_order_of_a_stream),
      cmocka_unit_test(overwriting_what_another_stream_reads_shows),
      cmocka_unit_test(communication_runs_at_once_and_compute_when_it_is_waited_for),
      cmocka_unit_test(sending_before_it_is_made_shows),
      cmocka_unit_test(receiving_before_the_last_was_read_shows),
      cmocka_unit_test(early_streams_wait_for_each_other),
  };
  /* First, where this process has one thread: ThreadSanitizer follows no child of several. */
  const struct CMUnitTest alone[] = {cmocka_unit_test(guards_find_what_is_written_outside)};
  int failed = cmocka_run_group_tests(alone, NULL, NULL);
  return failed + cmocka_run_group_tests(tests, open_devices, close_devices);
}
