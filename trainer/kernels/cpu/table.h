/* table.h - what the files of kernels/cpu share: names, the call from a table slot to a task, scratch memory.
 *
 * Every file here is compiled once for each instruction set. GD_CPU(norm_forward) names the function of this compilation;
 * all else is static. A slot copies its argument struct and enqueues a task; the task calls NAME_run(args, context).
 */
#ifndef GD_TRAINER_KERNELS_CPU_TABLE_H
#define GD_TRAINER_KERNELS_CPU_TABLE_H

#include <assert.h>

#include "trainer/kernels.h"

#define GD_CPU_JOIN2(name, isa) gd_cpu_##name##_##isa
#define GD_CPU_JOIN(name, isa) GD_CPU_JOIN2(name, isa)
#define GD_CPU(name) GD_CPU_JOIN(name, GD_ISA)

/* Scratch of one thread for the kernel that runs (products, attention, the loss, the embedding's sort): kernels of one
 * gd_kernels run one after another, and a copy of it on another stream (the sums of gradients) calls only kernels without
 * scratch. 4096-aligned, taken once by gd_kernels_open. */
enum { GD_CPU_SCRATCH_BYTES = 4 << 20 };

typedef struct gd_cpu_context {
  int32_t threads;
  unsigned char *scratch; /* [threads][GD_CPU_SCRATCH_BYTES] */
} gd_cpu_context;

static inline gd_cpu_context gd_cpu_context_of(const gd_kernels *kernels) {
  return (gd_cpu_context){kernels->threads, kernels->state};
}

static inline void *gd_cpu_scratch(const gd_cpu_context *context, int thread) {
  return context->scratch + (size_t)thread * GD_CPU_SCRATCH_BYTES;
}

/* Defines the slot GD_CPU(name) over `static gd_status name_run(const type *args, const gd_cpu_context *context)`. output and
 * bytes (of the variable args) name what the task writes and does not read, for the lazy device. */
#define GD_CPU_KERNEL(name, type, output, bytes)                                                                              \
  typedef struct name##_call {                                                                                                \
    type args;                                                                                                                \
    gd_cpu_context context;                                                                                                   \
  } name##_call;                                                                                                              \
  static_assert(sizeof(name##_call) <= 512, "arguments of a task");                                                           \
  static gd_status name##_task(void *arguments) {                                                                             \
    const name##_call *call = arguments;                                                                                      \
    return name##_run(&call->args, &call->context);                                                                           \
  }                                                                                                                           \
  gd_status GD_CPU(name)(gd_kernels * kernels, const type *args) {                                                            \
    name##_call call = {*args, gd_cpu_context_of(kernels)};                                                                   \
    return kernels->device->ops->enqueue(kernels->stream, #name, name##_task, &call, sizeof call, (output), (size_t)(bytes)); \
  }

gd_status GD_CPU(matmul)(gd_kernels *kernels, const gd_matmul *args);
/* Without its end. */
gd_status GD_CPU(product)(gd_kernels *kernels, const gd_matmul *args);
gd_status GD_CPU(norm_forward)(gd_kernels *kernels, const gd_norm_args *args);
/* Rows first .. end of norm_forward. */
void GD_CPU(norm_forward_rows)(const gd_norm_args *args, int64_t first, int64_t end);
gd_status GD_CPU(norm_backward)(gd_kernels *kernels, const gd_norm_args *args);
gd_status GD_CPU(tree_sum)(gd_kernels *kernels, const gd_tree_sum *args);
gd_status GD_CPU(column_sums)(gd_kernels *kernels, const gd_column_sums *args);
gd_status GD_CPU(activation_forward)(gd_kernels *kernels, const gd_activation_args *args);
gd_status GD_CPU(activation_backward)(gd_kernels *kernels, const gd_activation_args *args);
gd_status GD_CPU(rotary)(gd_kernels *kernels, const gd_rotary *args);
gd_status GD_CPU(embedding_forward)(gd_kernels *kernels, const gd_embedding *args);
gd_status GD_CPU(embedding_backward)(gd_kernels *kernels, const gd_embedding *args);
gd_status GD_CPU(rows_finish)(gd_kernels *kernels, const gd_rows_finish *args);
gd_status GD_CPU(dropout_backward)(gd_kernels *kernels, const gd_dropout_backward *args);
gd_status GD_CPU(attention_forward)(gd_kernels *kernels, const gd_attention *args);
gd_status GD_CPU(attention_backward)(gd_kernels *kernels, const gd_attention *args);
gd_status GD_CPU(cache_rows)(gd_kernels *kernels, const gd_cache_rows *args);
gd_status GD_CPU(loss_max)(gd_kernels *kernels, const gd_loss *args);
gd_status GD_CPU(loss_exponentials)(gd_kernels *kernels, const gd_loss *args);
gd_status GD_CPU(loss_gradient)(gd_kernels *kernels, const gd_loss *args);
gd_status GD_CPU(loss_rows)(gd_kernels *kernels, const gd_loss *args);
gd_status GD_CPU(loss_whole)(gd_kernels *kernels, const gd_loss *args);
gd_status GD_CPU(loss_sums)(gd_kernels *kernels, const gd_loss_sums *args);
gd_status GD_CPU(label_loss)(gd_kernels *kernels, const gd_label_loss_args *args);
gd_status GD_CPU(rows_pick)(gd_kernels *kernels, const gd_rows_pick *args);
gd_status GD_CPU(rows_put)(gd_kernels *kernels, const gd_rows_pick *args);
gd_status GD_CPU(unit_squares)(gd_kernels *kernels, const gd_unit_squares *args);
gd_status GD_CPU(unit_nodes)(gd_kernels *kernels, const gd_unit_nodes *args);
gd_status GD_CPU(node_sums)(gd_kernels *kernels, const gd_node_sums *args);
gd_status GD_CPU(finite)(gd_kernels *kernels, const gd_finite *args);
gd_status GD_CPU(vote)(gd_kernels *kernels, const gd_vote *args);
gd_status GD_CPU(update)(gd_kernels *kernels, const gd_update *args);
gd_status GD_CPU(convert)(gd_kernels *kernels, gd_dtype to_dtype, void *to, gd_dtype from_dtype, const void *from,
                          int64_t elements);
gd_status GD_CPU(add)(gd_kernels *kernels, float *y, const float *x, int64_t elements);
/* Floating-point operations a second of register-resident fused multiply-adds (bfloat16: pair products) on the calling thread,
 * over about `seconds`. 0 where the table has no such products. */
double GD_CPU(peak_loop)(gd_dtype dtype, double seconds);

/* The tables that registry.c chooses from. */
typedef struct gd_cpu_table {
  gd_kernels_ops ops;
  double (*peak_loop)(gd_dtype dtype, double seconds);
} gd_cpu_table;

extern const gd_cpu_table gd_cpu_table_generic;
extern const gd_cpu_table gd_cpu_table_avx2;
extern const gd_cpu_table gd_cpu_table_avx512;
extern const gd_cpu_table gd_cpu_table_avx512bf16;

#endif
