/* session_device.c - which device, and the groups of the mesh on it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collectives_mpi.h"
#include "comm/device_guard.h"
#include "comm/session_state.h"
#include "shard/base/log.h"

gd_status gd_session_open_device(gd_session *session, const gd_spec *spec, gd_device **out) {
  gd_device_kind kind = spec->run.device;
  char why[512] = "", without_nccl[512] = "";
  gd_status status = GD_OK;
  if (kind == GD_DEVICE_AUTO || kind == GD_DEVICE_CUDA) {
    GD_TRY(gd_session_try_gpu(session, kind == GD_DEVICE_CUDA, why, without_nccl));
    if (why[0] && kind == GD_DEVICE_CUDA)
      return gd_fail_user(GD_USAGE, "run.device: cuda was asked for, but %s; use auto or cpu to train on the processor", why);
  }
  bool open = session->cuda != NULL;
  if (!open) {
    status = kind == GD_DEVICE_LAZY    ? gd_device_open_lazy(&session->device)
             : kind == GD_DEVICE_EAGER ? gd_device_open_eager(&session->device)
                                       : gd_device_open_cpu(&session->device);
    open = status == GD_OK;
  }
  if (open) status = gd_device_guard(&session->device);
  if (status == GD_OK && without_nccl[0]) status = gd_staging_open(&session->device, &session->staging);
  status = gd_session_agree(session, status);
  if (status != GD_OK) {
    gd_staging_close(session->staging);
    session->staging = NULL;
    if (open) session->device.ops->close(&session->device);
    return status;
  }
  gd_session_watch_device(session, true);
  if (session->rank == 0) gd_log(GD_LOG_INFO, "device: %s%s%s", session->device.description, why[0] ? "; " : "", why);
  if (session->rank == 0 && session->staging)
    gd_log(GD_LOG_WARNING, "collectives between GPUs go over MPI through host memory, which is slow: %s", without_nccl);
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
  if (!session->cuda || session->staging) return gd_collectives_mpi_group(name, members[0], mine, session->staging, out);
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
  if (status == GD_OK) {
    status = gd_calls_watch(&session->calls, session->entries, name, group, members[0], group->rank, group->size);
    if (status != GD_OK) group->ops->destroy(group);
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
  gd_staging_close(session->staging);
  session->staging = NULL;
  bool open = session->device_open;
  gd_session_watch_device(session, false);
  if (open) session->device.ops->close(&session->device);
  gd_session_close_gpu_library(session);
}
