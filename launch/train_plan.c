/* train_plan.c - what --dry-run prints. */
#include <stdio.h>

#include "launch/train_report.h"
#include "shard/cost.h"

static double mib(int64_t bytes) {
  return (double)bytes / 1048576.0;
}

static void print_layout(const gd_spec *spec, const gd_layout *layout, int32_t ranks) {
  const gd_mesh *mesh = &layout->mesh;
  printf(
      "model      %lld parameters: %d layers, width %d, %d heads (%d key/value), ffn %d, vocabulary %d (padded %lld), context "
      "%d\n",
      (long long)gd_spec_parameters(spec), spec->model.layers, spec->model.width, spec->model.heads, spec->model.kv_heads,
      spec->model.ffn, spec->model.vocabulary, (long long)gd_spec_padded_vocabulary(spec), spec->model.context);
  if (layout->trained_elements < gd_spec_parameters(spec)) {
    printf("trained    %lld of them", (long long)layout->trained_elements);
    if (layout->lowest_layer == spec->model.layers)
      printf("; no layer goes backward\n");
    else
      printf("; backward ends at layer %d%s\n", layout->lowest_layer,
             layout->tables_trained ? " and the tables behind it" : "");
  }
  printf("layout     %d ranks = data %d x tensor %d, ZeRO %d, %d threads a rank, %s\n", ranks, mesh->size[GD_AXIS_DATA],
         mesh->size[GD_AXIS_TENSOR], spec->parallel.zero, spec->run.threads, gd_dtype_name(spec->precision.dtype));
  printf("numerics   %s, %d blocks along tensor, %d in time\n", spec->numerics == GD_NUMERICS_FAST ? "fast" : "invariant",
         spec->parallel.blocks, spec->parallel.time_blocks);
  printf("batch      %d sequences x %d tokens a step, %d sequences a data rank in micro-batches of %d\n", spec->batch.global,
         spec->batch.sequence, spec->batch.global / mesh->size[GD_AXIS_DATA], spec->batch.micro);
}

/* Rows that come again for the next micro-batch or layer are printed once. */
static void print_steps(const gd_plan *plan, const gd_layout *layout) {
  char line[320];
  printf("%s\n", gd_plan_line(plan, layout, -1, 1, 1, line, sizeof line));
  for (int32_t row = 0, rows, repeats; row < plan->count; row += rows * repeats) {
    gd_plan_repeats(plan, row, &rows, &repeats);
    for (int32_t k = 0; k < rows; k++) printf("%s\n", gd_plan_line(plan, layout, row + k, rows, repeats, line, sizeof line));
  }
}

static void print_cost(const gd_layout *layout) {
  gd_cost cost;
  gd_memory memory[GD_MEMORY_IDS];
  gd_cost_of(layout, &cost);
  gd_memory_of_largest(layout, memory);
  printf("\nmemory of a rank by arena, the most of any data rank (MiB)\n");
  for (int group = 0; group < GD_MEMORY_HOST; group++) {
    int64_t bytes = gd_memory_group_bytes(memory, (gd_memory_group)group);
    printf("  %-12s %12.1f", gd_memory_group_name((gd_memory_group)group), mib(bytes));
    if (group == GD_MEMORY_GRADIENTS) printf("   buffers: %d", (int)(bytes / (layout->gradient_elems * 4)));
    printf("\n");
  }
  printf("  total        %12.1f\n", mib(gd_memory_device_bytes(memory)));
  if (layout->spec.run.device == GD_DEVICE_CUDA) {
    gd_gpu_memory gpu;
    gd_memory_of_gpu(memory, layout->mesh.ranks, &gpu);
    printf("  on a GPU besides: scratch of kernels %.1f, workspace of cuBLASLt %.1f, CUDA context%s about %.0f (an estimate)\n",
           mib(gpu.scratch), mib(gpu.workspace), layout->mesh.ranks > 1 ? " and NCCL" : "", mib(gpu.context_estimate));
    printf("  GPU, about   %12.1f\n", mib(gpu.total));
  }
  printf("  host memory for a save %.1f MiB; a checkpoint on disk %.1f MiB (whole job)\n",
         mib(memory[GD_M_HOST_SNAPSHOT].bytes), mib(cost.checkpoint_bytes));
  const int64_t process = gd_memory_device_bytes(memory) + GD_PROCESS_BYTES;
  if (layout->spec.run.device != GD_DEVICE_CUDA)
    printf(
        "  a process on the CPU holds about %.1f MiB, %.1f from its first save on: %d for programs and buffers are among "
        "them\n",
        mib(process), mib(process + memory[GD_M_HOST_SNAPSHOT].bytes), GD_PROCESS_BYTES >> 20);
  printf("\nstep       %lld tokens, %.4g TFLOP\n", (long long)cost.step_tokens, cost.step_flops / 1e12);
  printf("  rank 0 sends %.1f MiB over the data axis, %.1f MiB over the tensor axis\n", mib(cost.data_traffic_bytes),
         mib(cost.tensor_traffic_bytes));
  if (layout->spec.finetune.pack && cost.document_traffic_bytes)
    printf(
        "  and %.3f MiB over the tensor axis for each further document that ends in the fullest %d tokens of its share of a "
        "step\n",
        mib(cost.document_traffic_bytes), (int)layout->shape.chunk);
}

static void print_activations(const gd_layout *layout) {
  gd_activations activations;
  gd_layout_activations(layout, layout->spec.batch.micro, true, 0, &activations);
  printf("\nactivations of a micro-batch (%d sequences; %d alive at once)\n  %-24s %-32s %-9s %-10s %6s %12s\n",
         activations.sequences, activations.slots, "name", "shape", "dtype", "until", "copies", "MiB");
  for (int id = 0; id < GD_ACTIVATION_IDS; id++) {
    const gd_activation_entry *e = &activations.entries[id];
    if (!e->name || !e->elements) continue;
    printf("  %-24s %-32s %-9s %-10s %6d %12.2f\n", e->name, e->shape, gd_dtype_name(e->dtype), gd_lifetime_name(e->lifetime),
           e->copies, mib(e->copies * e->elements * (int64_t)gd_dtype_bytes(e->dtype)));
  }
}

gd_status gd_train_report_plan(const gd_spec *spec, int32_t ranks, bool json) {
  gd_mesh mesh;
  gd_layout layout;
  gd_plan plan;
  GD_TRY(gd_mesh_init(&mesh, ranks, spec->parallel.tensor, spec->parallel.pipeline, spec->parallel.context));
  GD_TRY(gd_layout_create(spec, &mesh, 0, &layout));
  gd_status status = gd_plan_create(&layout, &plan);
  if (status == GD_OK && json) {
    gd_train_plan_json(spec, &layout, &plan);
    gd_plan_free(&plan);
  } else if (status == GD_OK) {
    print_layout(spec, &layout, ranks);
    printf("\nthe step of every rank\n");
    print_steps(&plan, &layout);
    print_cost(&layout);
    print_activations(&layout);
    gd_plan_free(&plan);
  }
  gd_layout_free(&layout);
  return status;
}
