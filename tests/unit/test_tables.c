/* Every back end fills every slot of its table, so that no caller asks whether one is there: CPU kernels, devices and the group
 * of one. The MPI group: tests/mpi/test_collectives.c; CUDA and NCCL: tests/gpu/check_backend.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/tables.h"
#include "trainer/kernels/cpu/table.h"

static void kernels_of_every_instruction_set_are_whole(void **state) {
  (void)state;
  const gd_cpu_table *tables[] = {
#if defined(__x86_64__)
    &gd_cpu_table_avx2,
    &gd_cpu_table_avx512,
    &gd_cpu_table_avx512bf16,
#endif
    &gd_cpu_table_generic
  };
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    int empty = table_empty_kernel(&tables[i]->ops);
    if (empty >= 0) fail_msg("%s: slot %d is empty", tables[i]->ops.name, empty);
    assert_non_null(tables[i]->peak_loop);
  }
}

static void devices_are_whole(void **state) {
  (void)state;
  gd_device cpu, lazy, eager;
  assert_int_equal(gd_device_open_cpu(&cpu), GD_OK);
  assert_int_equal(gd_device_open_lazy(&lazy), GD_OK);
  assert_int_equal(gd_device_open_eager(&eager), GD_OK);
  assert_int_equal(table_empty_device(cpu.ops), -1);
  assert_int_equal(table_empty_device(lazy.ops), -1);
  assert_int_equal(table_empty_device(eager.ops), -1);
  eager.ops->close(&eager);
  lazy.ops->close(&lazy);
  cpu.ops->close(&cpu);
}

static void the_group_of_one_is_whole(void **state) {
  (void)state;
  gd_group *group;
  assert_int_equal(gd_collectives_self_group("world", &group), GD_OK);
  assert_int_equal(table_empty_collective(group->ops), -1);
  group->ops->destroy(group);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(kernels_of_every_instruction_set_are_whole),
                                     cmocka_unit_test(devices_are_whole), cmocka_unit_test(the_group_of_one_is_whole)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
