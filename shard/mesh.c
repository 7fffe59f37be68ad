/* mesh.c - rank numbers and coordinates; tensor is the fastest axis. */
#include "shard/mesh.h"

#include <stdio.h>
#include <string.h>

gd_status gd_mesh_init(gd_mesh *mesh, int32_t ranks, int32_t tensor, int32_t pipeline, int32_t context) {
  int64_t model = (int64_t)tensor * pipeline * context;
  if (tensor < 1 || pipeline < 1 || context < 1 || ranks % model != 0)
    return gd_fail_user(GD_USAGE,
                        "parallel: tensor %d x pipeline %d x context %d = %lld does not divide the %d ranks of this job; "
                        "start a multiple of %lld ranks or change the parallel section",
                        tensor, pipeline, context, (long long)model, ranks, (long long)model);
  mesh->size[GD_AXIS_TENSOR] = tensor;
  mesh->size[GD_AXIS_CONTEXT] = context;
  mesh->size[GD_AXIS_DATA] = (int32_t)(ranks / model);
  mesh->size[GD_AXIS_PIPELINE] = pipeline;
  mesh->ranks = ranks;
  return GD_OK;
}

void gd_mesh_coordinates(const gd_mesh *mesh, int32_t rank, int32_t coordinates[GD_AXES]) {
  for (int axis = 0; axis < GD_AXES; axis++) {
    coordinates[axis] = rank % mesh->size[axis];
    rank /= mesh->size[axis];
  }
}

int32_t gd_mesh_rank(const gd_mesh *mesh, const int32_t coordinates[GD_AXES]) {
  int32_t rank = 0;
  for (int axis = GD_AXES - 1; axis >= 0; axis--) rank = rank * mesh->size[axis] + coordinates[axis];
  return rank;
}

int32_t gd_mesh_group(const gd_mesh *mesh, int32_t rank, uint32_t axes, int32_t *members, int32_t *mine) {
  int32_t me[GD_AXES], other[GD_AXES], count = 0;
  gd_mesh_coordinates(mesh, rank, me);
  *mine = -1;
  for (int32_t r = 0; r < mesh->ranks; r++) {
    gd_mesh_coordinates(mesh, r, other);
    bool same = true;
    for (int axis = 0; axis < GD_AXES; axis++)
      if (!(axes & (1u << axis)) && other[axis] != me[axis]) same = false;
    if (!same) continue;
    if (r == rank) *mine = count;
    members[count++] = r;
  }
  return count;
}

void gd_mesh_group_name(uint32_t axes, char out[32]) {
  static const char *const names[GD_AXES] = {"tensor", "context", "data", "pipeline"};
  if (axes == GD_MASK_WORLD) {
    snprintf(out, 32, "world");
    return;
  }
  out[0] = 0;
  for (int axis = 0; axis < GD_AXES; axis++)
    if (axes & (1u << axis)) {
      size_t used = strlen(out);
      snprintf(out + used, 32 - used, "%s%s", used ? "+" : "", names[axis]);
    }
  if (!out[0]) snprintf(out, 32, "self");
}
