/* mesh.h - rank <-> coordinates (data, pipeline, context, tensor). The tensor axis varies fastest (its traffic is the
 * heaviest, so its ranks sit next to each other), then context, then data, then pipeline. A group is any subset of axes. */
#ifndef GD_SHARD_MESH_H
#define GD_SHARD_MESH_H

#include <stdint.h>

#include "shard/base/status.h"

typedef enum gd_axis { GD_AXIS_TENSOR, GD_AXIS_CONTEXT, GD_AXIS_DATA, GD_AXIS_PIPELINE, GD_AXES } gd_axis;

enum {
  GD_MASK_TENSOR = 1u << GD_AXIS_TENSOR,
  GD_MASK_CONTEXT = 1u << GD_AXIS_CONTEXT,
  GD_MASK_DATA = 1u << GD_AXIS_DATA,
  GD_MASK_PIPELINE = 1u << GD_AXIS_PIPELINE,
  GD_MASK_WORLD = (1u << GD_AXES) - 1,
};

typedef struct gd_mesh {
  int32_t size[GD_AXES];
  int32_t ranks; /* product of sizes */
} gd_mesh;

/* data is what is left of `ranks`. GD_USAGE when tensor * pipeline * context does not divide ranks. */
GD_CHECKED gd_status gd_mesh_init(gd_mesh *mesh, int32_t ranks, int32_t tensor, int32_t pipeline, int32_t context);
void gd_mesh_coordinates(const gd_mesh *mesh, int32_t rank, int32_t coordinates[GD_AXES]);
int32_t gd_mesh_rank(const gd_mesh *mesh, const int32_t coordinates[GD_AXES]);

/* Ranks that share my coordinates on all axes outside `axes`, ascending in mesh order. members has room for mesh->ranks.
 * Returns their number; *mine = my index among them. */
int32_t gd_mesh_group(const gd_mesh *mesh, int32_t rank, uint32_t axes, int32_t *members, int32_t *mine);

/* "data+tensor", "world" (all axes), "self" (axes of total size 1 still carry their names). out has room for 32. */
void gd_mesh_group_name(uint32_t axes, char out[32]);

#endif
