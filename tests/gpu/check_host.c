/* check_host - scenes of the CUDA device and of the NCCL groups on the host's side; tests/gpu/test_cuda_host.sh runs them on
 * the fake runtime of tests/gpu/fake. check_host SCENE: 0 all right, 1 not. */
#include <time.h>

#include "tests/gpu/gpu.h"

static gd_device device;

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

/* Ten fills and a wait, which a fault of the GPU ends. */
static void work(void) {
  void *memory;
  must(device.ops->alloc(&device, 1000, &memory));
  for (int i = 0; i < 10; i++) must(device.ops->fill(device.compute, memory, i, 1000));
  must(device.ops->stream_sync(device.compute));
  device.ops->free(&device, memory);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } scenes[] = {{"tasks_and_memory", tasks_and_memory},
                {"overrun_after", overrun_after},
                {"overrun_before", overrun_before},
                {"work", work}};
  const gd_cuda_backend_table *table = gpu_backend();
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
