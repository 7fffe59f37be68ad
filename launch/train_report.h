/* train_report.h - what a training run tells: the progress line, metrics.jsonl, TensorBoard files. Rank 0 only. */
#ifndef GD_LAUNCH_TRAIN_REPORT_H
#define GD_LAUNCH_TRAIN_REPORT_H

#include "io/base/files.h"
#include "trainer/run.h"

typedef struct gd_train_report gd_train_report;

/* Opens the files of spec->run.directory; on resume they are cut back to run->start_step. peak_flops: of the whole job, 0 =
 * unknown. json: stdout gets every line of metrics.jsonl too. GD_IO. Local to rank 0. */
GD_CHECKED gd_status gd_train_report_open(const gd_run *run, double peak_flops, bool json, gd_train_report **out);
GD_CHECKED gd_status gd_train_report_event(gd_train_report *report, const gd_run_event *event);
void gd_train_report_close(gd_train_report *report);

/* Of a run that stopped early: why, and which checkpoint is its best, for people. */
enum { GD_EARLY_BYTES = 512 + GD_PATH_BYTES };
void gd_train_report_early(const gd_run *run, char out[GD_EARLY_BYTES]);

/* log.profile: the table of rank 0's kernels, as log lines for people and as the fields of the "profile" line. peak_flops: of
 * this rank, 0 = unknown. Measures how fast memory is copied, half a second. Nothing where no step was counted. GD_NO_MEMORY.
 * Local. */
GD_CHECKED gd_status gd_train_profile_tell(const gd_profile *profile, gd_device *device, double peak_flops, int32_t threads,
                                           gd_bytes *fields);

/* --dry-run: layout, step table, memory a rank by arena, disk and host memory, tokens a step. Prints to stdout; json: the same
 * numbers as one document. */
GD_CHECKED gd_status gd_train_report_plan(const gd_spec *spec, int32_t ranks, bool json);
void gd_train_plan_json(const gd_spec *spec, const gd_layout *layout, const gd_plan *plan);

#endif
