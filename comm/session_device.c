/* session_device.c - which device, and the groups of the mesh on it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/collectives_mpi.h"
#include "comm/device_guard.h"
#include "comm/machine.h"
#include "comm/session_state.h"
#include "shard/base/log.h"

static const char library_name[] = "libgptdist-cuda.so";

/* Next to the programs, in ../lib of an installed tree, in the build folder, then where the loader looks. */
static void *open_library(char *why, size_t why_bytes) {
  static const char *const places[] = {"../lib/", "", "../"};
  char program[4096], path[sizeof program + 64];
  gd_machine_folder(program, sizeof program);
  if (program[0]) {
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
      snprintf(path, sizeof path, "%s%s%s", program, places[i], library_name);
      if (access(path, R_OK) != 0) continue;
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

static void close_library(gd_session *session) {
  session->cuda = NULL;
  if (session->cuda_library) dlclose(session->cuda_library);
  session->cuda_library = NULL;
}

/* This rank's try; on failure `why` says what was missing and nothing stays open. */
static bool open_cuda(gd_session *session, bool automatic, char *why, size_t why_bytes) {
  session->cuda_library = open_library(why, why_bytes);
  if (!session->cuda_library) return false;
  /* POSIX lets dlsym's pointer be a function; C has no cast for it. */
  gd_cuda_backend_function *find = NULL;
  void *symbol = dlsym(session->cuda_library, "gd_cuda_backend");
  memcpy(&find, &symbol, sizeof find);
  const gd_cuda_backend_table *table = find ? find() : NULL;
  if (!table || table->abi != GD_CUDA_BACKEND_ABI) {
    snprintf(why, why_bytes, "%s is of another version of gptdist (interface %d, wanted %d)", library_name,
             table ? (int)table->abi : -1, GD_CUDA_BACKEND_ABI);
    close_library(session);
    return false;
  }
  if (automatic && table->lacks) {
    snprintf(why, why_bytes, "libgptdist-cuda.so has no CUDA kernel for %s yet", table->lacks);
    close_library(session);
    return false;
  }
  if (table->open_device(session->local_rank, &session->device) != GD_OK) {
    snprintf(why, why_bytes, "%s", gd_error_text());
    gd_error_clear();
    close_library(session);
    return false;
  }
  session->cuda = table;
  return true;
}

/* CUDA on every rank or on none. `why` is the reason of the first rank that has none. */
static gd_status try_cuda(gd_session *session, bool automatic, char why[512]) {
  typedef struct answer {
    char why[512];
  } answer;
  answer mine = {""};
  bool opened = open_cuda(session, automatic, mine.why, sizeof mine.why);
  if (!opened && !mine.why[0]) snprintf(mine.why, sizeof mine.why, "unknown reason");
  answer *all = calloc((size_t)session->ranks, sizeof *all);
  gd_status status = all ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", session->ranks);
  status = gd_session_agree(session, status);
  if (status == GD_OK) status = gd_session_all_gather(session, &mine, all, sizeof mine);
  why[0] = 0;
  for (int32_t r = 0; r < session->ranks && status == GD_OK && !why[0]; r++)
    if (all[r].why[0]) {
      if (session->ranks > 1 && r > 0)
        snprintf(why, 512, "rank %d: %.480s", r, all[r].why);
      else
        snprintf(why, 512, "%s", all[r].why);
    }
  free(all);
  if (opened && (status != GD_OK || why[0])) {
    session->device.ops->close(&session->device);
    close_library(session);
  }
  return status;
}

gd_status gd_session_open_device(gd_session *session, const gd_spec *spec, gd_device **out) {
  gd_device_kind kind = spec->run.device;
  char why[512] = "";
  gd_status status = GD_OK;
  if (kind == GD_DEVICE_AUTO || kind == GD_DEVICE_CUDA) {
    GD_TRY(try_cuda(session, kind == GD_DEVICE_AUTO, why));
    if (why[0] && kind == GD_DEVICE_CUDA)
      return gd_fail_user(GD_USAGE, "run.device: cuda was asked for, but %s; use auto or cpu to train on the processor", why);
  }
  if (!session->cuda)
    status = kind == GD_DEVICE_LAZY    ? gd_device_open_lazy(&session->device)
             : kind == GD_DEVICE_EAGER ? gd_device_open_eager(&session->device)
                                       : gd_device_open_cpu(&session->device);
  status = gd_session_agree(session, status);
  if (status != GD_OK) return status;
  gd_session_watch_device(session, true);
  if (session->rank == 0) gd_log(GD_LOG_INFO, "device: %s%s%s", session->device.description, why[0] ? "; " : "", why);
  *out = &session->device;
  return GD_OK;
}

const void *gd_session_cuda_kernels(const gd_session *session) {
  return session->cuda ? session->cuda->kernels : NULL;
}

static gd_status cuda_world(gd_session *session) {
  if (session->cuda_world) return GD_OK;
  gd_cuda_unique_id id;
  memset(&id, 0, sizeof id);
  gd_status status = session->rank == 0 ? session->cuda->unique_id(&id) : GD_OK;
  GD_TRY(gd_session_agree(session, status));
  GD_TRY(gd_session_broadcast(session, &id, sizeof id, 0));
  return session->cuda->world_group(&session->device, session->rank, session->ranks, &id, &session->cuda_world);
}

static gd_status make_group(gd_session *session, const char *name, const int32_t *members, int32_t count, int32_t mine,
                            gd_group **out) {
  if (count == 1) return gd_collectives_self_group(name, out);
  if (!session->cuda) return gd_collectives_mpi_group(name, members[0], mine, out);
  GD_TRY(cuda_world(session));
  return session->cuda->split_group(session->cuda_world, members[0], mine, name, out);
}

/* leader[r] = the lowest rank of r's group, for the watchdog. */
static void find_leaders(const gd_mesh *mesh, uint32_t axes, int32_t *members, int32_t *leader) {
  for (int32_t r = 0; r < mesh->ranks; r++) leader[r] = -1;
  for (int32_t r = 0; r < mesh->ranks; r++) {
    if (leader[r] >= 0) continue;
    int32_t mine, count = gd_mesh_group(mesh, r, axes, members, &mine);
    for (int32_t i = 0; i < count; i++) leader[members[i]] = members[0];
  }
}

static bool same_mesh(const gd_mesh *a, const gd_mesh *b) {
  for (int axis = 0; axis < GD_AXES; axis++)
    if (a->size[axis] != b->size[axis]) return false;
  return true;
}

gd_status gd_session_group(gd_session *session, const gd_mesh *mesh, uint32_t axes, gd_group **out) {
  for (int32_t i = GD_WATCH_SESSION + 1; i < session->entries; i++)
    if (session->entry[i].axes == axes && same_mesh(&session->entry[i].mesh, mesh)) {
      *out = session->entry[i].group;
      return GD_OK;
    }
  if (mesh->ranks != session->ranks)
    return gd_fail(GD_BUG, "a group of a mesh of %d ranks in a job of %d", mesh->ranks, session->ranks);
  if (session->entries == GD_SESSION_GROUPS) return gd_fail(GD_BUG, "more than %d groups", GD_SESSION_GROUPS);
  size_t bytes = (size_t)mesh->ranks * sizeof(int32_t);
  int32_t *members = malloc(bytes), *leader = malloc(bytes);
  gd_status status = members && leader ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for a group");
  char name[32];
  gd_mesh_group_name(axes, name);
  gd_group *group = NULL;
  if (status == GD_OK) {
    find_leaders(mesh, axes, members, leader);
    int32_t mine, count = gd_mesh_group(mesh, session->rank, axes, members, &mine);
    status = make_group(session, name, members, count, mine, &group);
  }
  free(members);
  if (status != GD_OK) {
    free(leader);
    return status;
  }
  pthread_mutex_lock(&session->lock);
  int32_t i = session->entries;
  session->entry[i] = (gd_session_entry){.group = group, .mesh = *mesh, .axes = axes, .leader = leader};
  if (i < GD_WATCH_GROUPS) {
    snprintf(session->watch.group_name[i], sizeof session->watch.group_name[i], "%s", name);
    session->watch.group_leader[i] = leader;
  }
  pthread_mutex_lock(&session->beat_lock);
  session->entries = i + 1;
  pthread_mutex_unlock(&session->beat_lock);
  pthread_mutex_unlock(&session->lock);
  *out = group;
  return GD_OK;
}

void gd_session_device_close(gd_session *session) {
  if (session->device_open) {
    /* A fault here was raised where the stream was last waited for; the queue must only be empty before its groups go. */
    if (session->device.ops->stream_sync(session->device.communication) != GD_OK) gd_error_clear();
    if (session->device.ops->stream_sync(session->device.compute) != GD_OK) gd_error_clear();
  }
  for (int32_t i = GD_WATCH_SESSION + 1; i < session->entries; i++) {
    session->entry[i].group->ops->destroy(session->entry[i].group);
    session->entry[i].group = NULL;
  }
  if (session->cuda_world) session->cuda_world->ops->destroy(session->cuda_world);
  bool open = session->device_open;
  gd_session_watch_device(session, false);
  if (open) session->device.ops->close(&session->device);
  close_library(session);
}
