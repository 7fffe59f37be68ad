/* registry.c - which kernel table a device gets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "trainer/kernels/cpu/table.h"

typedef struct choice {
  const char *name;
  const gd_cpu_table *table;
} choice;

/* From the best down: as the build has them, see CMakeLists.txt. */
static const choice choices[] = {
#if defined(__x86_64__)
    {"avx512bf16", &gd_cpu_table_avx512bf16},
    {"avx512", &gd_cpu_table_avx512},
    {"avx2", &gd_cpu_table_avx2},
#endif
    {"generic", &gd_cpu_table_generic},
};
enum { CHOICES = sizeof choices / sizeof choices[0] };

/* GPTDIST_ISA, or the best that runs here. */
static gd_status choose(const gd_cpu_table **out) {
  const char *wanted = getenv("GPTDIST_ISA");
  for (int i = 0; i < CHOICES; i++) {
    if (wanted && *wanted && strcmp(wanted, choices[i].name) != 0) continue;
    if (gd_machine_runs(choices[i].name)) {
      *out = choices[i].table;
      return GD_OK;
    }
    if (wanted && *wanted) return gd_fail_user(GD_USAGE, "GPTDIST_ISA=%s: this processor has no such instructions", wanted);
  }
  char names[64] = "";
  for (int i = CHOICES - 1; i >= 0; i--)
    snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", choices[i].name, i > 1 ? ", " : i ? " or " : "");
  return gd_fail_user(GD_USAGE, "GPTDIST_ISA=%s: expected %s", wanted ? wanted : "", names);
}

gd_status gd_kernels_open(gd_device *device, const gd_kernels_ops *cuda, int32_t threads, gd_kernels *out) {
  memset(out, 0, sizeof *out);
  out->device = device;
  out->stream = device->compute;
  out->threads = threads > 0 ? threads : 1;
  if (strcmp(device->ops->name, "cuda") == 0) {
    if (!cuda) return gd_fail(GD_BUG, "kernels of a CUDA device without the CUDA table");
    out->ops = cuda;
  } else {
    const gd_cpu_table *table;
    GD_TRY(choose(&table));
    out->ops = &table->ops;
  }
  return out->ops->open(out);
}

void gd_kernels_close(gd_kernels *kernels) {
  if (kernels->ops) kernels->ops->close(kernels);
  memset(kernels, 0, sizeof *kernels);
}

double gd_kernels_peak_flops(gd_dtype dtype, int32_t threads) {
  const gd_cpu_table *table;
  if (choose(&table) != GD_OK) {
    gd_error_clear();
    return 0.0;
  }
  double total = 0.0;
  double rates[256] = {0};
  int count = threads < 1 ? 1 : threads > 256 ? 256 : (int)threads;
#pragma omp parallel for num_threads(count) schedule(static, 1)
  for (int i = 0; i < count; i++) rates[i] = table->peak_loop(dtype, 0.02);
  for (int i = 0; i < count; i++) total += rates[i];
  return total;
}
