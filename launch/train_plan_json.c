/* train_plan_json.c - what --dry-run --json prints: one document. */
#include <inttypes.h>
#include <stdio.h>

#include "launch/train_report.h"
#include "shard/cost.h"

static const char *comma(bool first) {
  return first ? "" : ", ";
}

/* Folded as the printed table is; first_micro is null for what is done once a step. */
static void print_steps(const gd_plan *plan) {
  printf(", \"step\": [");
  for (int32_t row = 0, rows; row < plan->count;) {
    int32_t repeats = gd_plan_repeats(plan, row, &rows);
    for (int32_t k = row; k < row + rows; k++) {
      const gd_action *a = &plan->actions[k];
      char micro[16] = "null";
      if (a->micro >= 0) snprintf(micro, sizeof micro, "%d", a->micro);
      printf(
          "%s{\"clock\": %d, \"action\": \"%s\", \"first_micro\": %s, \"repeats\": %d, \"sequences\": %d, \"waits_for\": "
          "\"%s\"}",
          comma(k == 0), a->clock, gd_action_name(a->kind), micro, repeats, a->sequences, a->waits_for);
    }
    row += rows * repeats;
  }
  printf("]");
}

void gd_train_plan_json(const gd_spec *spec, const gd_layout *layout, const gd_plan *plan) {
  const gd_mesh *mesh = &layout->mesh;
  gd_cost cost;
  gd_memory memory[GD_MEMORY_IDS];
  gd_cost_of(layout, &cost);
  gd_memory_of_largest(layout, memory);
  printf("{\"event\": \"plan\", \"parameters\": %" PRId64 ", \"vocabulary\": %d, \"padded_vocabulary\": %" PRId64,
         gd_spec_parameters(spec), spec->model.vocabulary, gd_spec_padded_vocabulary(spec));
  printf(", \"ranks\": %d, \"data\": %d, \"tensor\": %d, \"zero\": %d, \"blocks\": %d, \"time_blocks\": %d, \"threads\": %d",
         mesh->ranks, mesh->size[GD_AXIS_DATA], mesh->size[GD_AXIS_TENSOR], spec->parallel.zero, spec->parallel.blocks,
         spec->parallel.time_blocks, spec->run.threads);
  printf(", \"dtype\": \"%s\", \"numerics\": \"%s\", \"sequences\": %d, \"micro\": %d, \"sequence\": %d",
         gd_dtype_name(spec->precision.dtype), spec->numerics == GD_NUMERICS_FAST ? "fast" : "invariant", spec->batch.global,
         spec->batch.micro, spec->batch.sequence);
  printf(", \"memory_bytes\": {");
  for (int group = 0; group < GD_MEMORY_HOST; group++)
    printf("\"%s\": %" PRId64 ", ", gd_memory_group_name((gd_memory_group)group),
           gd_memory_group_bytes(memory, (gd_memory_group)group));
  printf("\"total\": %" PRId64, gd_memory_device_bytes(memory));
  printf("}, \"snapshot_bytes\": %" PRId64 ", \"checkpoint_bytes\": %" PRId64 ", \"step_tokens\": %" PRId64
         ", \"step_flops\": %.9g, \"data_bytes_sent\": %" PRId64 ", \"tensor_bytes_sent\": %" PRId64
         ", \"world_bytes_sent\": %" PRId64 ", \"step_rows\": %d",
         memory[GD_M_HOST_SNAPSHOT].bytes, cost.checkpoint_bytes, cost.step_tokens, cost.step_flops, cost.data_traffic_bytes,
         cost.tensor_traffic_bytes, cost.world_traffic_bytes, plan->count);
  print_steps(plan);
  printf("}\n");
}
