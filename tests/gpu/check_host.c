/* check_host - scenes of the CUDA device and of the NCCL groups on the host's side; tests/gpu/test_cuda_host.sh runs them on
 * the fake runtime of tests/gpu/fake. check_host SCENE: 0 all right, 1 not. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/gpu/gpu.h"

static const gd_cuda_backend_table *table;
static gd_device device;
static int pauses;

/* In place of the C library's, for the shared object too: counts, and with a counted clock, of a microsecond a look, takes no
 * time. */
static bool counted;

int nanosleep(const struct timespec *time, struct timespec *left) {
  __atomic_add_fetch(&pauses, 1, __ATOMIC_RELAXED);
  return counted ? 0 : clock_nanosleep(CLOCK_MONOTONIC, 0, time, left);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int64_t looks;
  if (!counted) return (int)syscall(SYS_clock_gettime, clock, time);
  int64_t us = __atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED);
  *time = (struct timespec){us / 1000000, us % 1000000 * 1000};
  return 0;
}

/* Leaves with the fault's own code, as programs do. */
static void must(gd_status status) {
  if (status == GD_OK) return;
  printf("%s\n", gd_error_text());
  exit((int)status);
}

static gd_status nap(void *arguments) {
  const struct timespec pause = {0, *(const long *)arguments};
  nanosleep(&pause, NULL);
  return GD_OK;
}

/* Memory is taken and given back while tasks are queued, which take the device's lock as they end. */
static void tasks_and_memory(void) {
  for (int i = 0; i < 3; i++) {
    void *first, *second;
    long ns = 20000000;
    must(device.ops->alloc(&device, 1 << 20, &first));
    must(device.ops->enqueue(device.compute, "nap", nap, &ns, sizeof ns, NULL, 0));
    must(device.ops->enqueue(device.compute, "nap", nap, &ns, sizeof ns, NULL, 0));
    device.ops->free(&device, first);
    must(device.ops->enqueue(device.compute, "nap", nap, &ns, sizeof ns, NULL, 0));
    must(device.ops->alloc(&device, (size_t)100 << 20, &second));
    device.ops->free(&device, second);
    must(device.ops->stream_sync(device.compute));
  }
}

/* One byte too many, behind the end or before the start. */
static void overrun(size_t bytes, int offset) {
  char *memory, *neighbour;
  must(device.ops->alloc(&device, bytes, (void **)&memory));
  must(device.ops->alloc(&device, bytes, (void **)&neighbour));
  must(device.ops->fill(device.compute, memory, 1, bytes));
  must(device.ops->fill(device.compute, memory + offset, 7, 1));
  device.ops->free(&device, memory);
  device.ops->free(&device, neighbour);
}

static void overrun_after(void) {
  overrun(1000, 1000);
}

static void overrun_before(void) {
  overrun(4096, -1);
}

/* The first byte behind the guard, and the last before the other one. */
static void overrun_far_after(void) {
  overrun(1000, 1000 + 4096);
}

static void overrun_far_before(void) {
  overrun(1000, -4097);
}

/* Ten fills and a wait, which a fault of the GPU ends. */
static void work(void) {
  void *memory;
  must(device.ops->alloc(&device, 1000, &memory));
  for (int i = 0; i < 10; i++) must(device.ops->fill(device.compute, memory, i, 1000));
  must(device.ops->stream_sync(device.compute));
  device.ops->free(&device, memory);
}

/* A group of two ranks, of which only this one is there, split from the world of both. */
static gd_group *open_groups(gd_group **world) {
  gd_cuda_unique_id id;
  gd_group *pair;
  must(table->unique_id(&id));
  must(table->world_group(&device, 0, 2, &id, world));
  must(table->split_group(*world, 0, 0, "data", &pair));
  return pair;
}

/* A collective whose peer is gone: the host's wait ends with what NCCL says. */
static void peer_is_gone(void) {
  gd_group *world, *pair = open_groups(&world);
  void *memory;
  must(device.ops->alloc(&device, 1000, &memory));
  must(pair->ops->all_reduce(pair, device.communication, memory, 100, GD_FLOAT32, GD_SUM));
  gd_status status = device.ops->stream_sync(device.communication);
  printf("%d %s\n", (int)status, gd_error_text());
  /* The group is gone for good, and closing it lets the stream go on. */
  status = pair->ops->all_reduce(pair, device.communication, memory, 100, GD_FLOAT32, GD_SUM);
  printf("%d %s\n", (int)status, gd_error_text());
  status = device.ops->stream_sync(device.communication);
  printf("again %d\n", (int)status);
  pair->ops->destroy(pair);
  world->ops->destroy(world);
  must(device.ops->stream_sync(device.communication));
  device.ops->free(&device, memory);
}

/* The same through an event, and without a fault: 2000 calls, each taken after a few questions. */
static void many_calls(void) {
  gd_group *world, *pair = open_groups(&world);
  gd_event *event;
  void *memory;
  const char *order = getenv("NCCL_LAUNCH_ORDER_IMPLICIT");
  must(device.ops->event_create(&device, &event));
  must(device.ops->alloc(&device, 1000, &memory));
  pauses = 0;
  counted = true;
  for (int i = 0; i < 2000; i++) must(pair->ops->all_reduce(pair, device.communication, memory, 100, GD_FLOAT32, GD_SUM));
  counted = false;
  int between = pauses;
  must(device.ops->event_record(event, device.communication));
  must(device.ops->event_sync(event));
  pair->ops->destroy(pair);
  world->ops->destroy(world);
  device.ops->event_destroy(event);
  device.ops->free(&device, memory);
  printf("launch order %s, %d pauses\n", order ? order : "unset", between);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } scenes[] = {{"tasks_and_memory", tasks_and_memory},
                {"overrun_after", overrun_after},
                {"overrun_before", overrun_before},
                {"overrun_far_after", overrun_far_after},
                {"overrun_far_before", overrun_far_before},
                {"work", work},
                {"peer_is_gone", peer_is_gone},
                {"many_calls", many_calls}};
  table = gpu_backend();
  for (size_t i = 0; argc == 2 && i < sizeof scenes / sizeof *scenes; i++) {
    if (strcmp(scenes[i].name, argv[1]) != 0) continue;
    gpu_open(table, 0, &device);
    scenes[i].run();
    device.ops->close(&device);
    printf("passed %s\n", argv[1]);
    return 0;
  }
  printf("usage: check_host SCENE\n");
  return 1;
}
