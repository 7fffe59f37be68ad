/* library_nccl.c - opens NCCL. */
#include "comm/library_nccl.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

gd_nccl_library gd_nccl;

/* POSIX lets dlsym's pointer be a function; C has no cast for it. */
static bool find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  memcpy(function, &symbol, sizeof symbol);
  return symbol != NULL;
}

gd_status gd_nccl_load(void) {
  static bool loaded;
  if (loaded) return GD_OK;
  void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *text = dlerror();
    return gd_fail(GD_NO_MEMORY,
                   "several GPUs need NCCL, which does not open: %s; install libnccl2, or name its folder in "
                   "LD_LIBRARY_PATH",
                   text ? text : "dlopen failed");
  }
  const char *missing = NULL;
#define GD_NCCL_FIND(name) \
  if (!missing && !find(library, "nccl" #name, &gd_nccl.name)) missing = "nccl" #name;
  GD_NCCL_FUNCTIONS(GD_NCCL_FIND)
#undef GD_NCCL_FIND
  if (missing) {
    dlclose(library);
    return gd_fail(GD_NO_MEMORY, "NCCL has no %s: it is too old", missing);
  }
  loaded = true;
  return GD_OK;
}
