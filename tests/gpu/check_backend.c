/* check_backend - the shared object opens from a program; without a driver or GPU it says so through the program's own error
 * record, and so does a kernel of a call that it cannot do. Exit 0: a GPU was opened; 77: none is here; 1: something is wrong.
 */
#include "tests/gpu/gpu.h"
#include "tests/tables.h"
#include "trainer/kernels.h"

int main(void) {
  const gd_cuda_backend_table *table = gpu_backend();
  const gd_kernels_ops *kernels = table->kernels;
  int empty[] = {table_empty_kernel(kernels), table_empty_device(table->device_ops),
                 table_empty_collective(table->collectives_ops)};
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
