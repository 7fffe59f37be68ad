/* profile.h - how long each kernel of a step takes (log.profile): a table of wrappers around the device's own, put in place for
 * the steps that are counted and taken away behind them, so that a run without a profile is as it was. On the CPU a kernel runs
 * inside the call that enqueues it. On a GPU the host waits before and after each, so a call's time has its launch and the wait
 * in it, and nothing overlaps. All local, and only on the thread that enqueues. */
#ifndef GD_TRAINER_KERNELS_PROFILE_H
#define GD_TRAINER_KERNELS_PROFILE_H

#include "trainer/kernels/work.h"

enum {
  GD_PROFILE_KERNELS = 32,  /* functions of gd_kernels_ops that compute */
  GD_PROFILE_PRODUCTS = 128 /* shapes of products told apart; those that come later are summed in one row */
};

typedef struct gd_profile gd_profile;

typedef struct gd_profile_row {
  /* the kernel, or form and shape of a product: "NT 2048 x 768 x 384", "TN 768 x 384 x 256, 8 leaves", "NT 8 x 8 x 8, gelu" */
  char name[64];
  int64_t calls;
  double seconds;
  gd_work work; /* of all calls */
} gd_profile_row;

/* What was counted; rows by time, the longest first, those without a call left out. */
typedef struct gd_profile_table {
  int64_t steps;
  double seconds; /* of the steps, kernels and all else */
  int32_t kernel_count, product_count;
  gd_profile_row kernels[GD_PROFILE_KERNELS];
  gd_profile_row products[GD_PROFILE_PRODUCTS + 1]; /* matmul, by shape */
} gd_profile_table;

/* Whether kernels of this device can be timed. GD_USAGE naming the key and the device. */
GD_CHECKED gd_status gd_profile_check(const gd_device *device);

/* kernels stay the caller's, and must stay open and where they are. GD_USAGE as gd_profile_check, GD_NO_MEMORY. */
GD_CHECKED gd_status gd_profile_open(gd_kernels *kernels, gd_profile **out);
void gd_profile_close(gd_profile *profile);

/* Around a step. The first one takes its memory from the system page by page: it is forgotten when a second one begins. */
void gd_profile_begin(gd_profile *profile);
void gd_profile_end(gd_profile *profile);

void gd_profile_read(const gd_profile *profile, gd_profile_table *out);

/* Bytes a second, read and written, at which a GPU copies its own memory, or `threads` threads that of the host, none of it in
 * a cache (the best of some tries). 0 where there are not 512 MiB for it. About half a second. */
double gd_profile_copy_rate(gd_device *device, int32_t threads);

#endif
