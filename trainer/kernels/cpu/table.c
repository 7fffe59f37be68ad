/* table.c - the table of one instruction set, and the scratch memory of its threads. */
#include "trainer/kernels/cpu/table.h"

#include <stdlib.h>
#include <sys/mman.h>

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

static gd_status open_state(gd_kernels *kernels) {
  enum { HUGE_PAGE = 2 << 20 };
  size_t bytes = (size_t)kernels->threads * GD_CPU_SCRATCH_BYTES;
  if (posix_memalign(&kernels->state, HUGE_PAGE, bytes) != 0)
    return gd_fail(GD_NO_MEMORY, "no memory for the scratch of %d threads (%d MiB each)", (int)kernels->threads,
                   (int)(GD_CPU_SCRATCH_BYTES >> 20));
  madvise(kernels->state, bytes, MADV_HUGEPAGE); /* fewer TLB misses; as well without */
  return GD_OK;
}

static void close_state(gd_kernels *kernels) {
  free(kernels->state);
  kernels->state = NULL;
}

const gd_cpu_table GD_CPU(table) = {
    .ops =
        {
            .name = "cpu-" TEXT(GD_ISA),
#if defined(__AVX512BF16__)
            .bfloat16 = true,
#else
            .bfloat16 = false,
#endif
            .matmul = GD_CPU(matmul),
            .norm_forward = GD_CPU(norm_forward),
            .norm_backward = GD_CPU(norm_backward),
            .tree_sum = GD_CPU(tree_sum),
            .column_sums = GD_CPU(column_sums),
            .activation_forward = GD_CPU(activation_forward),
            .activation_backward = GD_CPU(activation_backward),
            .rotary = GD_CPU(rotary),
            .embedding_forward = GD_CPU(embedding_forward),
            .embedding_backward = GD_CPU(embedding_backward),
            .rows_finish = GD_CPU(rows_finish),
            .dropout_backward = GD_CPU(dropout_backward),
            .attention_forward = GD_CPU(attention_forward),
            .attention_backward = GD_CPU(attention_backward),
            .cache_rows = GD_CPU(cache_rows),
            .loss_max = GD_CPU(loss_max),
            .loss_exponentials = GD_CPU(loss_exponentials),
            .loss_gradient = GD_CPU(loss_gradient),
            .loss_rows = GD_CPU(loss_rows),
            .loss_whole = GD_CPU(loss_whole),
            .loss_sums = GD_CPU(loss_sums),
            .label_loss = GD_CPU(label_loss),
            .rows_pick = GD_CPU(rows_pick),
            .rows_put = GD_CPU(rows_put),
            .unit_squares = GD_CPU(unit_squares),
            .unit_nodes = GD_CPU(unit_nodes),
            .node_sums = GD_CPU(node_sums),
            .finite = GD_CPU(finite),
            .vote = GD_CPU(vote),
            .update = GD_CPU(update),
            .convert = GD_CPU(convert),
            .add = GD_CPU(add),
            .open = open_state,
            .close = close_state,
        },
    .peak_loop = GD_CPU(peak_loop),
};
