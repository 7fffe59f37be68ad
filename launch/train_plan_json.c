/* train_plan_json.c - what --dry-run --json prints: one document. */
#include <inttypes.h>
#include <stdio.h>

#include "launch/train_report.h"
#include "shard/cost.h"

static const char *comma(bool first) {
  return first ? "" : ", ";
}

/* A number, or null where it is negative: the row has none. */
static void print_number(const char *key, int32_t value) {
  if (value < 0)
    printf(", \"%s\": null", key);
  else
    printf(", \"%s\": %d", key, value);
}

/* Folded as the printed table is. */
static void print_steps(const gd_plan *plan, const gd_layout *layout) {
  printf(", \"step\": [");
  for (int32_t row = 0, rows, repeats; row < plan->count; row += rows * repeats) {
    gd_plan_repeats(plan, row, &rows, &repeats);
    for (int32_t k = row; k < row + rows; k++) {
      const gd_action *a = &plan->actions[k];
      printf("%s{\"row\": %d, \"action\": \"%s\", \"rows\": %d, \"repeats\": %d", comma(k == 0), k, gd_action_name(a->kind),
             rows, repeats);
      if (a->kind == GD_DO_HEAD) printf(", \"head\": \"%s\"", gd_plan_head(layout));
      print_number("micro", a->micro);
      print_number("sequences", a->sequences ? a->sequences : -1);
      print_number("first_layer", a->layers ? a->first_layer : -1);
      print_number("layers", a->layers ? a->layers : -1);
      if (a->bucket < 0)
        printf(", \"bucket\": null");
      else
        printf(", \"bucket\": \"%s\"", layout->buckets[a->bucket].name);
      print_number("slot", a->slot);
      print_number("waits_for", a->waits_for);
      printf(", \"waits_for_step_before\": %s}", a->waits_for == GD_WAITS_STEP_BEFORE ? "true" : "false");
    }
  }
  printf("]");
}

void gd_train_plan_json(const gd_spec *spec, const gd_layout *layout, const gd_plan *plan) {
  const gd_mesh *mesh = &layout->mesh;
  gd_cost cost;
  gd_memory memory[GD_MEMORY_IDS];
  gd_cost_of(layout, &cost);
  gd_memory_of_largest(layout, memory);
  printf("{\"event\": \"plan\", \"parameters\": %" PRId64 ", \"trained_parameters\": %" PRId64
         ", \"vocabulary\": %d, \"padded_vocabulary\": %" PRId64,
         gd_spec_parameters(spec), layout->trained_elements, spec->model.vocabulary, gd_spec_padded_vocabulary(spec));
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
  printf("}, \"gpu_bytes\": ");
  if (spec->run.device == GD_DEVICE_CUDA) {
    gd_gpu_memory gpu;
    gd_memory_of_gpu(memory, mesh->ranks, &gpu);
    printf("{\"scratch\": %" PRId64 ", \"workspace\": %" PRId64 ", \"context_estimate\": %" PRId64
           ", \"total_estimate\": %" PRId64 "}",
           gpu.scratch, gpu.workspace, gpu.context_estimate, gpu.total);
  } else {
    printf("null");
  }
  printf(", \"snapshot_bytes\": %" PRId64 ", \"checkpoint_bytes\": %" PRId64 ", \"step_tokens\": %" PRId64
         ", \"step_flops\": %.9g, \"data_bytes_sent\": %" PRId64 ", \"tensor_bytes_sent\": %" PRId64
         ", \"document_bytes_sent\": %" PRId64 ", \"step_rows\": %d",
         memory[GD_M_HOST_SNAPSHOT].bytes, cost.checkpoint_bytes, cost.step_tokens, cost.step_flops, cost.data_traffic_bytes,
         cost.tensor_traffic_bytes, cost.document_traffic_bytes, plan->count);
  print_steps(plan, layout);
  printf("}\n");
}
