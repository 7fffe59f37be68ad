/* metric.h - the one table of what a validation measures: a name, which way is better, and whose data it is of. A row here, its
 * name among the choices of validation.metric (io/config/keys.c), and its value in gd_validator_run make a new one. Local. */
#ifndef GD_IO_DATA_METRIC_H
#define GD_IO_DATA_METRIC_H

#include "io/data/task.h"
#include "shard/spec.h"

typedef struct gd_metric_info {
  const char *name;
  bool higher;   /* is better */
  bool any_task; /* else of `task` alone */
  gd_data_task_kind task;
} gd_metric_info;

const gd_metric_info *gd_metric_look(gd_metric metric);
/* GD_METRICS: there is none of that name. */
gd_metric gd_metric_find(const char *name);
/* GD_USAGE with those that there are where examples of `task` have no such metric. */
GD_CHECKED gd_status gd_metric_check(gd_metric metric, gd_data_task_kind task);

#endif
