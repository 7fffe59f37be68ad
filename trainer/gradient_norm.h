/* gradient_norm.h - the sum of squares of every parameter's gradient over all ranks: squares of units here, then the stages of
 * shard/norm.h. Every rank comes to the same bits. */
#ifndef GD_TRAINER_GRADIENT_NORM_H
#define GD_TRAINER_GRADIENT_NORM_H

#include "shard/norm.h"
#include "trainer/arenas.h"

typedef struct gd_gradient_norm {
  gd_model *model;
  gd_norm_table table;
  float *unit_sums;     /* [units of my pieces] device */
  double *nodes;        /* [table.size.nodes] device */
  int32_t *index;       /* the table's, device */
  gd_message *messages; /* the table's, with their addresses */
} gd_gradient_norm;

/* Takes the memory. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_gradient_norm_open(gd_model *model, gd_gradient_norm *out);
void gd_gradient_norm_close(gd_gradient_norm *norm);
/* *squares = [parameters] double, device, in name order, of gradient slot 0 (each rank's own pieces); ready on the compute
 * stream, until the next call. Collective over data and tensor. */
GD_CHECKED gd_status gd_gradient_norm_run(gd_gradient_norm *norm, const double **squares);

#endif
