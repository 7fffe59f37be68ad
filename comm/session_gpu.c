/* session_gpu.c - whether this job trains on GPUs: every rank finds libgptdist-cuda.so and a GPU of its own, or none does. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/machine.h"
#include "comm/session_state.h"
#include "shard/base/log.h"

static const char library_name[] = "libgptdist-cuda.so";

/* Without NVIDIA's driver there is no GPU, and the library would bring cuBLASLt along, 160 MB of a process that never uses it.
 * It stays open: CUDA opens it again. Tests on a fake runtime have none. */
static bool has_driver(void) {
  const char *fake = getenv("GPTDIST_TEST_WITHOUT_DRIVER");
  return (fake && strcmp(fake, "1") == 0) || dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != NULL;
}

/* Next to the programs, in ../lib of an installed tree, in the build folder, then where the loader looks. `asked`: by
 * run.device: cuda, which is to be told what CUDA says. */
static void *open_library(bool asked, char *why, size_t why_bytes) {
  static const char *const places[] = {"../lib/", "", "../"};
  char program[4096], path[sizeof program + 64];
  gd_machine_folder(program, sizeof program);
  if (program[0]) {
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
      snprintf(path, sizeof path, "%s%s%s", program, places[i], library_name);
      if (access(path, R_OK) != 0) continue;
      if (!asked && !has_driver()) {
        snprintf(why, why_bytes, "no NVIDIA driver (libcuda.so.1) here");
        return NULL;
      }
      void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
      if (!library) snprintf(why, why_bytes, "%s", dlerror());
      return library;
    }
  }
  void *library = dlopen(library_name, RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    const char *text = dlerror();
    if (text && strstr(text, "No such file") && strstr(text, library_name) == text)
      snprintf(why, why_bytes, "no %s here", library_name);
    else
      snprintf(why, why_bytes, "%s", text ? text : "dlopen failed");
  }
  return library;
}

void gd_session_close_gpu_library(gd_session *session) {
  session->cuda = NULL;
  if (session->cuda_library) dlclose(session->cuda_library);
  session->cuda_library = NULL;
}

/* Whether ranks may share a GPU, as GPTDIST_TEST_SHARE_GPU says: no, 1 (yes) or nccl (and NCCL is made to take that). */
typedef enum sharing { SHARE_NOT, SHARE, SHARE_WITH_NCCL } sharing;

/* What a rank found; `why` says what is missing, "" where nothing is, and `no_nccl` why it has no NCCL. */
typedef struct answer {
  char why[512], no_nccl[512];
  gd_cuda_gpu gpu;
  int32_t nccl_version;
  sharing share;
} answer;

static sharing asked_to_share(void) {
  const char *text = getenv("GPTDIST_TEST_SHARE_GPU");
  return !text ? SHARE_NOT : strcmp(text, "1") == 0 ? SHARE : strcmp(text, "nccl") == 0 ? SHARE_WITH_NCCL : SHARE_NOT;
}

/* Loads the library and asks for the GPU, of which nothing is taken yet. */
static void find_gpu(gd_session *session, bool asked, answer *mine) {
  char *why = mine->why;
  session->cuda_library = open_library(asked, why, sizeof mine->why);
  if (!session->cuda_library) {
    if (!why[0]) snprintf(why, sizeof mine->why, "%s does not open", library_name);
    return;
  }
  /* POSIX lets dlsym's pointer be a function; C has no cast for it. */
  gd_cuda_backend_function *find = NULL;
  void *symbol = dlsym(session->cuda_library, "gd_cuda_backend");
  memcpy(&find, &symbol, sizeof find);
  const gd_cuda_backend_table *table = find ? find() : NULL;
  if (!table || table->abi != GD_CUDA_BACKEND_ABI) {
    snprintf(why, sizeof mine->why, "%s is of another version of gptdist (interface %d, wanted %d)", library_name,
             table ? (int)table->abi : -1, GD_CUDA_BACKEND_ABI);
  } else if (table->lacks) {
    snprintf(why, sizeof mine->why, "%s has no CUDA kernel for %s yet", library_name, table->lacks);
  } else if (table->unproved && !asked) {
    snprintf(why, sizeof mine->why, "%s, so only run.device: cuda takes a GPU", table->unproved);
  } else if (table->identify(session->local_rank, &mine->gpu) != GD_OK) {
    snprintf(why, sizeof mine->why, "%s", gd_error_text());
    gd_error_clear();
  } else {
    session->cuda = table;
    mine->share = asked_to_share();
    if (session->ranks > 1 && table->nccl_version(&mine->nccl_version) != GD_OK) {
      snprintf(mine->no_nccl, sizeof mine->no_nccl, "%s", gd_error_text());
      gd_error_clear();
    }
  }
}

/* The first rank below `rank` that has the same GPU; -1: none. */
static int32_t shares_with(const answer *all, int32_t rank) {
  for (int32_t r = 0; r < rank; r++)
    if (memcmp(all[r].gpu.uuid, all[rank].gpu.uuid, sizeof all[r].gpu.uuid) == 0) return r;
  return -1;
}

/* Each of two ranks on one GPU would have half of the memory that it counts on. Tests share one. */
static void check_apart(const gd_session *session, const answer *all, char *why, size_t why_bytes) {
  const gd_cuda_gpu *mine = &all[session->rank].gpu;
  int32_t other = shares_with(all, session->rank);
  if (other < 0 || all[session->rank].share != SHARE_NOT) return;
  snprintf(why, why_bytes,
           "ranks %d and %d would share GPU %d (%s, %s) of host %s, where %d ranks see %d GPU%s: start at most one rank a GPU",
           other, session->rank, (int)mine->ordinal, mine->name, mine->bus, session->host, session->local_ranks,
           (int)mine->count, mine->count == 1 ? "" : "s");
}

/* Why the groups cannot be NCCL's: a rank has none, or two share a GPU, which it refuses. The same on all ranks. */
static void check_for_nccl(const gd_session *session, const answer *all, char without_nccl[512]) {
  for (int32_t r = 0; r < session->ranks && !without_nccl[0]; r++) {
    int32_t other = shares_with(all, r);
    if (all[r].no_nccl[0])
      snprintf(without_nccl, 512, "rank %d: %.480s", r, all[r].no_nccl);
    else if (other >= 0 && all[r].share == SHARE)
      snprintf(without_nccl, 512, "ranks %d and %d share GPU %d, and NCCL takes one rank a GPU", other, r,
               (int)all[r].gpu.ordinal);
  }
}

/* 22809 as "2.28.9". */
static const char *nccl_text(int32_t version, char text[32]) {
  snprintf(text, 32, "%d.%d.%d", (int)(version / 10000), (int)(version / 100 % 100), (int)(version % 100));
  return text;
}

static void check_nccl(const gd_session *session, const answer *all, char *why, size_t why_bytes) {
  char mine[32], first[32];
  if (why[0] || all[session->rank].nccl_version == all[0].nccl_version) return;
  snprintf(why, why_bytes,
           "rank %d on host %s loads NCCL %s, rank 0 has %s: all hosts need the same libnccl.so.2 (see LD_LIBRARY_PATH there)",
           session->rank, session->host, nccl_text(all[session->rank].nccl_version, mine),
           nccl_text(all[0].nccl_version, first));
}

/* Collectives of two communicators are under way on two streams, which NCCL keeps in order only since then. */
static void warn_of_order(int32_t version) {
  static const int32_t ordered = 22600;
  char text[32];
  if (version >= ordered) return;
  gd_log(GD_LOG_WARNING,
         "NCCL %s does not keep the order of collectives on two streams (NCCL_LAUNCH_ORDER_IMPLICIT, since 2.26): ranks may "
         "wait for each other for ever; install libnccl2 2.26 or newer on all hosts",
         nccl_text(version, text));
}

/* Everybody's answers, and in `why` the reason of the first rank that has one, led by its rank where `named`. */
static gd_status gather(gd_session *session, const answer *mine, answer *all, bool named, char why[512]) {
  GD_TRY(gd_session_all_gather(session, mine, all, sizeof *mine));
  for (int32_t r = 0; r < session->ranks && !why[0]; r++) {
    if (!all[r].why[0]) continue;
    if (named && r > 0)
      snprintf(why, 512, "rank %d: %.480s", r, all[r].why);
    else
      snprintf(why, 512, "%s", all[r].why);
  }
  return GD_OK;
}

static gd_status try_together(gd_session *session, bool asked, answer *mine, answer *all, bool *opened, char why[512],
                              char without_nccl[512]) {
  find_gpu(session, asked, mine);
  GD_TRY(gather(session, mine, all, true, why));
  if (why[0]) return GD_OK;
  check_for_nccl(session, all, without_nccl);
  check_apart(session, all, mine->why, sizeof mine->why);
  if (!without_nccl[0]) check_nccl(session, all, mine->why, sizeof mine->why);
  GD_TRY(gather(session, mine, all, false, why));
  if (why[0]) return GD_OK;
  if (session->rank == 0 && session->ranks > 1 && !without_nccl[0]) warn_of_order(all[0].nccl_version);
  *opened = session->cuda->open_device(session->local_rank, &session->device) == GD_OK;
  if (!*opened) {
    snprintf(mine->why, sizeof mine->why, "%s", gd_error_text());
    gd_error_clear();
  }
  return gather(session, mine, all, true, why);
}

gd_status gd_session_try_gpu(gd_session *session, bool asked, char why[512], char without_nccl[512]) {
  answer *mine = calloc(1, sizeof *mine), *all = calloc((size_t)session->ranks, sizeof *all);
  gd_status status = mine && all ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", session->ranks);
  bool opened = false;
  status = gd_session_agree(session, status);
  if (status == GD_OK) status = try_together(session, asked, mine, all, &opened, why, without_nccl);
  free(mine);
  free(all);
  if (status == GD_OK && !why[0]) return GD_OK;
  if (opened) session->device.ops->close(&session->device);
  gd_session_close_gpu_library(session);
  return status;
}
