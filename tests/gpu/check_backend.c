/* check_backend - the shared object opens from a program; without a driver or GPU it says so through the program's own error
 * record, and so does a kernel of a call that it cannot do. Exit 0: a GPU was opened; 77: none is here; 1: something is wrong.
 * check_backend memory: prints the bytes in use on the GPU once it is open: CUDA's own, and what other processes have. */
#include "tests/gpu/gpu.h"
#include "tests/tables.h"
#include "trainer/kernels.h"

static int tell_memory(const gd_cuda_backend_table *table) {
  gd_device device;
  gpu_open(table, 0, &device);
  printf("%lld\n", (long long)device.ops->memory_used(&device));
  device.ops->close(&device);
  return 0;
}

int main(int argc, char **argv) {
  const gd_cuda_backend_table *table = gpu_backend();
  if (argc > 1 && strcmp(argv[1], "memory") == 0) return tell_memory(table);
  const gd_kernels_ops *kernels = table->kernels;
  bool groups = strcmp(table->collectives_ops->name, "none") != 0; /* the emulation says so */
  int empty[] = {table_empty_kernel(kernels), table_empty_device(table->device_ops),
                 groups ? table_empty_collective(table->collectives_ops) : -1};
  for (int i = 0; i < 3; i++)
    if (empty[i] >= 0) {
      printf("slot %d of the CUDA %s is empty\n", empty[i], i == 0 ? "kernels" : i == 1 ? "device" : "groups");
      return 1;
    }
  gd_attention attention;
  memset(&attention, 0, sizeof attention);
  if (kernels->attention_forward(NULL, &attention) != GD_BUG || !strstr(gd_error_text(), "attention: head size 0")) {
    printf("attention: expected its text, found \"%s\"\n", gd_error_text());
    return 1;
  }
  gd_error_clear();
  gd_device device;
  gd_status status = table->open_device(0, &device);
  if (status == GD_OK) {
    printf("%s\n", device.description);
    device.ops->close(&device);
    return 0;
  }
  printf("%s\n", gd_error_text());
  bool clear = status == GD_NO_MEMORY && (strstr(gd_error_text(), "no CUDA driver") || strstr(gd_error_text(), "no GPU"));
  return clear ? GPU_SKIP : 1;
}
