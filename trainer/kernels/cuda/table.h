/* table.h - what the CUDA kernels share on the host's side: the state behind gd_kernels.state and the functions of the table.
 * Plain C, no CUDA header. Each function is the slot of the same name in trainer/kernels.h. */
#ifndef GD_TRAINER_KERNELS_CUDA_TABLE_H
#define GD_TRAINER_KERNELS_CUDA_TABLE_H

/* Before the block: the C library's headers bring their own linkage. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "comm/device_cuda.h"
#include "trainer/kernels.h"

/* Taken by open. Scratch is used by one kernel call at a time, in stream order. */
typedef struct gd_cuda_state {
  void *scratch; /* device memory: partial products, lists of the embedding */
  size_t scratch_bytes;
  struct gd_cuda_blas *blas; /* cuBLASLt's handle, workspace and chosen algorithms */
} gd_cuda_state;

static inline gd_cuda_state *gd_cuda_state_of(const gd_kernels *kernels) {
  return (gd_cuda_state *)kernels->state;
}

/* matmul.c */
GD_CHECKED gd_status gd_cuda_matmul_run(gd_kernels *kernels, const gd_matmul *args);

/* cublaslt.c: C = A B + beta C (+ bias), `batch` times, the strides being between one and the next; in the library's order.
 * With an end, bfloat16, a batch of one, n a multiple of GD_CUDA_KEPT_STEP: GELU or its derivative of the unrounded sum. */
enum { GD_CUDA_KEPT_STEP = 8 };
typedef struct gd_cuda_product {
  gd_matmul_form form;
  int64_t m, n, k;
  gd_dtype dtype, c_dtype;
  const void *a, *b;
  int64_t lda, ldb, ldc;
  void *c;
  float beta;
  const void *bias; /* [n] of dtype or NULL; only where c_dtype is dtype */
  int64_t batch, a_stride, b_stride, c_stride;
  gd_matmul_end end;
  void *kept; /* [m][n] */
} gd_cuda_product;
GD_CHECKED gd_status gd_cuda_blas_open(gd_kernels *kernels, struct gd_cuda_blas **out);
void gd_cuda_blas_close(gd_kernels *kernels, struct gd_cuda_blas *blas);
GD_CHECKED gd_status gd_cuda_blas_run(gd_kernels *kernels, const gd_cuda_product *product);
/* Whether the library has an algorithm for it; the same answer for all products of these sizes and this alignment. */
GD_CHECKED gd_status gd_cuda_blas_offers(gd_kernels *kernels, const gd_cuda_product *product, bool *out);

/* gemm.cu (float32) and gemm_bf16.cu (bfloat16): for each leaf of k_leaf terms, `inner` of them in each of `leaves` outer ones,
 * C = chains (from C where accumulate, else +0) + bias. The C of leaf number outer * inner + i starts at
 * c + number * c_leaf_stride. */
typedef struct gd_cuda_gemm {
  gd_matmul_form form;
  int64_t m, n, k, k_leaf, inner, leaves;
  const void *a, *b;
  int64_t lda, a_leaf_stride, ldb, b_leaf_stride;
  gd_dtype c_dtype; /* float32, or that of A and B */
  void *c;
  int64_t ldc, c_leaf_stride;
  bool accumulate;
  const void *bias;    /* [n] of the dtype of A and B, or NULL */
  bool a_wide, b_wide; /* set inside */
} gd_cuda_gemm;
GD_CHECKED gd_status gd_cuda_gemm_run(gd_kernels *kernels, const gd_cuda_gemm *args);
GD_CHECKED gd_status gd_cuda_gemm_bf16_run(gd_kernels *kernels, const gd_cuda_gemm *args);

/* gemm.cu: C[r][c] = round(TREE over leaves of (TREE over inner ones of sum[leaf][r][c]) + bias[c]). With one leaf sum may be
 * C. */
typedef struct gd_cuda_finish {
  int64_t rows, columns, leaves, inner;
  const float *sum; /* [leaves * inner], leaf_stride elements apart */
  int64_t sum_ld, leaf_stride;
  gd_dtype c_dtype;
  void *c;
  int64_t ldc;
  gd_dtype bias_dtype;
  const void *bias; /* [columns] or NULL */
} gd_cuda_finish;
GD_CHECKED gd_status gd_cuda_matmul_finish(gd_kernels *kernels, const gd_cuda_finish *args);

/* attention_mma_forward.cu, attention_mma_backward.cu: bfloat16 attention that was checked and is not empty; backward has
 * delta. */
GD_CHECKED gd_status gd_cuda_attention_forward_bf16(gd_kernels *kernels, const gd_attention *args);
GD_CHECKED gd_status gd_cuda_attention_backward_bf16(gd_kernels *kernels, const gd_attention *args);

/* The rest: one .cu file a subject. */
GD_CHECKED gd_status gd_cuda_norm_forward(gd_kernels *kernels, const gd_norm_args *args);
GD_CHECKED gd_status gd_cuda_norm_backward(gd_kernels *kernels, const gd_norm_args *args);
GD_CHECKED gd_status gd_cuda_tree_sum(gd_kernels *kernels, const gd_tree_sum *args);
GD_CHECKED gd_status gd_cuda_column_sums(gd_kernels *kernels, const gd_column_sums *args);
GD_CHECKED gd_status gd_cuda_activation_forward(gd_kernels *kernels, const gd_activation_args *args);
GD_CHECKED gd_status gd_cuda_activation_backward(gd_kernels *kernels, const gd_activation_args *args);
GD_CHECKED gd_status gd_cuda_rotary(gd_kernels *kernels, const gd_rotary *args);
GD_CHECKED gd_status gd_cuda_embedding_forward(gd_kernels *kernels, const gd_embedding *args);
GD_CHECKED gd_status gd_cuda_embedding_backward(gd_kernels *kernels, const gd_embedding *args);
GD_CHECKED gd_status gd_cuda_rows_finish(gd_kernels *kernels, const gd_rows_finish *args);
GD_CHECKED gd_status gd_cuda_dropout_backward(gd_kernels *kernels, const gd_dropout_backward *args);
GD_CHECKED gd_status gd_cuda_attention_forward(gd_kernels *kernels, const gd_attention *args);
GD_CHECKED gd_status gd_cuda_attention_backward(gd_kernels *kernels, const gd_attention *args);
GD_CHECKED gd_status gd_cuda_cache_rows(gd_kernels *kernels, const gd_cache_rows *args);
GD_CHECKED gd_status gd_cuda_loss_max(gd_kernels *kernels, const gd_loss *args);
GD_CHECKED gd_status gd_cuda_loss_exponentials(gd_kernels *kernels, const gd_loss *args);
GD_CHECKED gd_status gd_cuda_loss_gradient(gd_kernels *kernels, const gd_loss *args);
GD_CHECKED gd_status gd_cuda_loss_rows(gd_kernels *kernels, const gd_loss *args);
GD_CHECKED gd_status gd_cuda_loss_whole(gd_kernels *kernels, const gd_loss *args);
GD_CHECKED gd_status gd_cuda_loss_sums(gd_kernels *kernels, const gd_loss_sums *args);
GD_CHECKED gd_status gd_cuda_label_loss(gd_kernels *kernels, const gd_label_loss_args *args);
GD_CHECKED gd_status gd_cuda_rows_pick(gd_kernels *kernels, const gd_rows_pick *args);
GD_CHECKED gd_status gd_cuda_rows_put(gd_kernels *kernels, const gd_rows_pick *args);
GD_CHECKED gd_status gd_cuda_unit_squares(gd_kernels *kernels, const gd_unit_squares *args);
GD_CHECKED gd_status gd_cuda_unit_nodes(gd_kernels *kernels, const gd_unit_nodes *args);
GD_CHECKED gd_status gd_cuda_node_sums(gd_kernels *kernels, const gd_node_sums *args);
GD_CHECKED gd_status gd_cuda_finite(gd_kernels *kernels, const gd_finite *args);
GD_CHECKED gd_status gd_cuda_vote(gd_kernels *kernels, const gd_vote *args);
GD_CHECKED gd_status gd_cuda_update(gd_kernels *kernels, const gd_update *args);
GD_CHECKED gd_status gd_cuda_convert(gd_kernels *kernels, gd_dtype to_dtype, void *to, gd_dtype from_dtype, const void *from,
                                     int64_t elements);
GD_CHECKED gd_status gd_cuda_add(gd_kernels *kernels, float *y, const float *x, int64_t elements);

#ifdef __cplusplus
}
#endif

#endif
