/* metric.c - the table of what a validation measures. */
#include "io/data/metric.h"

#include <string.h>

static const gd_metric_info metrics[GD_METRICS] = {
    [GD_METRIC_LOSS] = {"loss", .any_task = true},
    [GD_METRIC_ACCURACY] = {"accuracy", .higher = true, .task = GD_TASK_CLASSIFICATION},
    [GD_METRIC_MACRO_F1] = {"macro_f1", .higher = true, .task = GD_TASK_CLASSIFICATION},
    [GD_METRIC_WEIGHTED_F1] = {"weighted_f1", .higher = true, .task = GD_TASK_CLASSIFICATION},
    [GD_METRIC_MICRO_F1] = {"micro_f1", .higher = true, .task = GD_TASK_CLASSIFICATION},
};

const gd_metric_info *gd_metric_look(gd_metric metric) {
  return &metrics[metric];
}

gd_metric gd_metric_find(const char *name) {
  int metric = 0;
  while (metric < GD_METRICS && strcmp(metrics[metric].name, name) != 0) metric++;
  return (gd_metric)metric;
}

static bool fits(const gd_metric_info *metric, gd_data_task_kind task) {
  return metric->any_task || metric->task == task;
}

gd_status gd_metric_check(gd_metric metric, gd_data_task_kind task) {
  if (fits(&metrics[metric], task)) return GD_OK;
  gd_bytes names = {0};
  gd_status status = GD_OK;
  for (int i = 0; status == GD_OK && i < GD_METRICS; i++)
    if (fits(&metrics[i], task)) status = gd_bytes_printf(&names, "%s%s", names.count ? ", " : "", metrics[i].name);
  if (status == GD_OK)
    status = gd_fail_user(GD_USAGE, "validation.metric: found %s, which is of data for %s; the data here is %s, which has %s",
                          metrics[metric].name, gd_data_task_name(metrics[metric].task),
                          task == GD_TASK_LM ? "plain text" : gd_data_task_name(task), names.bytes);
  gd_bytes_free(&names);
  return status;
}
