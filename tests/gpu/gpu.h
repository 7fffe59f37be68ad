/* gpu.h - what the checks of libgptdist-cuda.so share: opening it, and exit 77 where there is no GPU. */
#ifndef GD_TESTS_GPU_GPU_H
#define GD_TESTS_GPU_GPU_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/cuda_backend.h"
#include "comm/device_guard.h"

enum { GPU_SKIP = 77 };

/* The table of the shared object in the build folder (or of GPTDIST_CUDA_LIBRARY); ends the program where it does not load. */
static inline const gd_cuda_backend_table *gpu_backend(void) {
  const char *path = getenv("GPTDIST_CUDA_LIBRARY");
  void *library = dlopen(path ? path : GD_BUILD_DIR "/lib/libgptdist-cuda.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    printf("cannot open the shared object: %s\n", dlerror());
    exit(1);
  }
  gd_cuda_backend_function *find = NULL;
  void *symbol = dlsym(library, "gd_cuda_backend");
  memcpy(&find, &symbol, sizeof find);
  const gd_cuda_backend_table *table = find ? find() : NULL;
  if (!table || table->abi != GD_CUDA_BACKEND_ABI) {
    printf("interface %d, expected %d\n", table ? (int)table->abi : -1, GD_CUDA_BACKEND_ABI);
    exit(1);
  }
  return table;
}

/* Opens the GPU, guarded where GPTDIST_DEVICE_GUARD asks for it; without one prints why and leaves with GPU_SKIP. */
static inline void gpu_open(const gd_cuda_backend_table *table, int32_t local_rank, gd_device *out) {
  if (table->open_device(local_rank, out) == GD_OK) {
    if (gd_device_guard(out) == GD_OK) return;
    printf("no guards: %s\n", gd_error_text());
    exit(1);
  }
  printf("skipped: no GPU (%s)\n", gd_error_text());
  exit(GPU_SKIP);
}

/* Ends the program on a fault. */
static inline void gpu_must(gd_status status) {
  if (status == GD_OK) return;
  printf("fault %d (%s): %s\n", (int)status, gd_status_name(status), gd_error_text());
  exit(1);
}

#endif
