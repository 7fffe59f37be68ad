/* precision.c - bfloat16 is a property of the whole job: one rank without its products decides for all. */
#include "launch/precision.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/base/log.h"
#include "trainer/model.h"

/* What a rank's kernels are. */
typedef struct kernel_report {
  char name[28];
  int32_t bfloat16;
} kernel_report;

gd_status gd_precision_settle(gd_session *session, gd_device *device, bool promised, gd_spec *spec) {
  if (spec->precision.dtype != GD_BFLOAT16) return GD_OK;
  gd_kernels kernels;
  kernel_report mine = {"", 0}, *all = calloc((size_t)gd_session_ranks(session), sizeof *all);
  gd_status status = all ? gd_model_open_kernels(session, device, 1, &kernels)
                         : gd_fail(GD_NO_MEMORY, "no memory for %d ranks", gd_session_ranks(session));
  if (status == GD_OK) {
    snprintf(mine.name, sizeof mine.name, "%s", kernels.ops->name);
    mine.bfloat16 = kernels.ops->bfloat16;
    gd_kernels_close(&kernels);
  }
  status = gd_session_agree(session, status);
  if (status == GD_OK) status = gd_session_all_gather(session, &mine, all, sizeof mine);
  int32_t lacking = -1;
  for (int32_t r = gd_session_ranks(session) - 1; status == GD_OK && r >= 0; r--)
    if (!all[r].bfloat16) lacking = r;
  if (lacking >= 0 && promised) {
    status = gd_fail_user(GD_USAGE,
                          "precision.dtype: found bf16, but rank %d has no bfloat16 products (kernels %s), and numerics: "
                          "invariant promises the bits of those that have; set precision.dtype: fp32, or numerics: fast",
                          lacking, all[lacking].name);
  } else if (lacking >= 0) {
    gd_log(GD_LOG_WARNING, "precision: rank %d has no bfloat16 products (kernels %s); all ranks compute in float32", lacking,
           all[lacking].name);
    spec->precision.dtype = GD_FLOAT32;
  }
  free(all);
  return status;
}
