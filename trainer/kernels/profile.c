/* profile.c - the wrappers around a kernel table, and the rows they add to. */
#include "trainer/kernels/profile.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"

static_assert(sizeof(gd_kernels_ops) == (GD_PROFILE_KERNELS + 4) * sizeof(void (*)(void)),
              "name, bfloat16 and epilogues, open and close");

typedef struct product {
  gd_matmul_form form;
  int64_t m, n, k, leaves;
  gd_matmul_end end;
} product;

struct gd_profile {
  gd_kernels *kernels;
  const gd_kernels_ops *real;
  gd_kernels_ops wrapped;
  int64_t steps, begun;
  double seconds, began;
  int32_t row_count;
  gd_profile_row rows[GD_PROFILE_KERNELS];
  int32_t product_count;
  product products[GD_PROFILE_PRODUCTS];
  gd_profile_row product_rows[GD_PROFILE_PRODUCTS + 1]; /* the last one: shapes beyond those */
};

static void count(gd_profile_row *row, double seconds, gd_work work) {
  row->calls++;
  row->seconds += seconds;
  row->work.bytes += work.bytes;
  row->work.operations += work.operations;
}

static void count_kernel(gd_profile *profile, const char *name, double start, gd_work work) {
  double seconds = gd_machine_seconds() - start;
  int32_t i = 0;
  while (i < profile->row_count && strcmp(profile->rows[i].name, name) != 0) i++;
  if (i == profile->row_count) snprintf(profile->rows[profile->row_count++].name, sizeof profile->rows[i].name, "%s", name);
  count(&profile->rows[i], seconds, work);
}

/* On a device whose stream runs behind the host: what was enqueued before ends, so that a kernel is timed alone. */
static gd_status wait_for_stream(gd_kernels *kernels) {
  if (kernels->device->immediate) return GD_OK;
  return kernels->device->ops->stream_sync(kernels->stream);
}

/* When a kernel begins, and, where it has ended, what it took. */
static gd_status begin_kernel(gd_kernels *kernels, double *start) {
  GD_TRY(wait_for_stream(kernels));
  *start = gd_machine_seconds();
  return GD_OK;
}

/* The wrapper of a kernel that has one argument struct. */
#define TIMED(name, type)                                                \
  static gd_status timed_##name(gd_kernels *kernels, const type *args) { \
    gd_profile *profile = kernels->profile;                              \
    double start;                                                        \
    GD_TRY(begin_kernel(kernels, &start));                               \
    GD_TRY(profile->real->name(kernels, args));                          \
    GD_TRY(wait_for_stream(kernels));                                    \
    count_kernel(profile, #name, start, gd_work_##name(args));           \
    return GD_OK;                                                        \
  }
TIMED(norm_forward, gd_norm_args)
TIMED(norm_backward, gd_norm_args)
TIMED(tree_sum, gd_tree_sum)
TIMED(column_sums, gd_column_sums)
TIMED(activation_forward, gd_activation_args)
TIMED(activation_backward, gd_activation_args)
TIMED(rotary, gd_rotary)
TIMED(embedding_forward, gd_embedding)
TIMED(embedding_backward, gd_embedding)
TIMED(rows_finish, gd_rows_finish)
TIMED(dropout_backward, gd_dropout_backward)
TIMED(attention_forward, gd_attention)
TIMED(attention_backward, gd_attention)
TIMED(cache_rows, gd_cache_rows)
TIMED(loss_max, gd_loss)
TIMED(loss_exponentials, gd_loss)
TIMED(loss_gradient, gd_loss)
TIMED(loss_rows, gd_loss)
TIMED(loss_whole, gd_loss)
TIMED(loss_sums, gd_loss_sums)
TIMED(label_loss, gd_label_loss_args)
TIMED(rows_pick, gd_rows_pick)
TIMED(rows_put, gd_rows_pick)
TIMED(unit_squares, gd_unit_squares)
TIMED(unit_nodes, gd_unit_nodes)
TIMED(node_sums, gd_node_sums)
TIMED(finite, gd_finite)
TIMED(vote, gd_vote)
TIMED(update, gd_update)

static gd_profile_row *row_of_product(gd_profile *profile, const gd_matmul *a) {
  for (int32_t i = 0; i < profile->product_count; i++) {
    const product *p = &profile->products[i];
    if (p->m == a->m && p->n == a->n && p->k == a->k && p->leaves == a->leaves && p->form == a->form && p->end == a->end)
      return &profile->product_rows[i];
  }
  if (profile->product_count == GD_PROFILE_PRODUCTS) return &profile->product_rows[GD_PROFILE_PRODUCTS];
  profile->products[profile->product_count] = (product){a->form, a->m, a->n, a->k, a->leaves, a->end};
  return &profile->product_rows[profile->product_count++];
}

static gd_status timed_matmul(gd_kernels *kernels, const gd_matmul *args) {
  gd_profile *profile = kernels->profile;
  double start;
  GD_TRY(begin_kernel(kernels, &start));
  GD_TRY(profile->real->matmul(kernels, args));
  GD_TRY(wait_for_stream(kernels));
  gd_work work = gd_work_matmul(args);
  count(row_of_product(profile, args), gd_machine_seconds() - start, work);
  count_kernel(profile, "matmul", start, work);
  return GD_OK;
}

static gd_status timed_convert(gd_kernels *kernels, gd_dtype to_dtype, void *to, gd_dtype from_dtype, const void *from,
                               int64_t elements) {
  gd_profile *profile = kernels->profile;
  double start;
  GD_TRY(begin_kernel(kernels, &start));
  GD_TRY(profile->real->convert(kernels, to_dtype, to, from_dtype, from, elements));
  GD_TRY(wait_for_stream(kernels));
  count_kernel(profile, "convert", start, gd_work_convert(to_dtype, from_dtype, elements));
  return GD_OK;
}

static gd_status timed_add(gd_kernels *kernels, float *y, const float *x, int64_t elements) {
  gd_profile *profile = kernels->profile;
  double start;
  GD_TRY(begin_kernel(kernels, &start));
  GD_TRY(profile->real->add(kernels, y, x, elements));
  GD_TRY(wait_for_stream(kernels));
  count_kernel(profile, "add", start, gd_work_add(elements));
  return GD_OK;
}

/* name, bfloat16, epilogues, open and close are those of the table that is wrapped. */
static const gd_kernels_ops wrappers = {
    .matmul = timed_matmul,
    .norm_forward = timed_norm_forward,
    .norm_backward = timed_norm_backward,
    .tree_sum = timed_tree_sum,
    .column_sums = timed_column_sums,
    .activation_forward = timed_activation_forward,
    .activation_backward = timed_activation_backward,
    .rotary = timed_rotary,
    .embedding_forward = timed_embedding_forward,
    .embedding_backward = timed_embedding_backward,
    .rows_finish = timed_rows_finish,
    .dropout_backward = timed_dropout_backward,
    .attention_forward = timed_attention_forward,
    .attention_backward = timed_attention_backward,
    .cache_rows = timed_cache_rows,
    .loss_max = timed_loss_max,
    .loss_exponentials = timed_loss_exponentials,
    .loss_gradient = timed_loss_gradient,
    .loss_rows = timed_loss_rows,
    .loss_whole = timed_loss_whole,
    .loss_sums = timed_loss_sums,
    .label_loss = timed_label_loss,
    .rows_pick = timed_rows_pick,
    .rows_put = timed_rows_put,
    .unit_squares = timed_unit_squares,
    .unit_nodes = timed_unit_nodes,
    .node_sums = timed_node_sums,
    .finite = timed_finite,
    .vote = timed_vote,
    .update = timed_update,
    .convert = timed_convert,
    .add = timed_add,
};

/* ---- open, close, a step ---- */

gd_status gd_profile_check(const gd_device *device) {
  if (strcmp(device->ops->name, "cpu") == 0 || strcmp(device->ops->name, "cuda") == 0) return GD_OK;
  return gd_fail_user(
      GD_USAGE,
      "log.profile: found true on the device \"%s\", whose kernels are not timed; set run.device: cpu or cuda, or "
      "leave log.profile out",
      device->description);
}

gd_status gd_profile_open(gd_kernels *kernels, gd_profile **out) {
  GD_TRY(gd_profile_check(kernels->device));
  gd_profile *profile = calloc(1, sizeof *profile);
  if (!profile) return gd_fail(GD_NO_MEMORY, "no memory for the profile");
  profile->kernels = kernels;
  profile->real = kernels->ops;
  profile->wrapped = wrappers;
  profile->wrapped.name = kernels->ops->name;
  profile->wrapped.bfloat16 = kernels->ops->bfloat16;
  profile->wrapped.epilogues = kernels->ops->epilogues;
  profile->wrapped.open = kernels->ops->open;
  profile->wrapped.close = kernels->ops->close;
  kernels->profile = profile;
  *out = profile;
  return GD_OK;
}

void gd_profile_close(gd_profile *profile) {
  if (!profile) return;
  profile->kernels->ops = profile->real;
  profile->kernels->profile = NULL;
  free(profile);
}

static void forget(gd_profile *profile) {
  profile->steps = 0;
  profile->seconds = 0;
  profile->row_count = profile->product_count = 0;
  memset(profile->rows, 0, sizeof profile->rows);
  memset(profile->product_rows, 0, sizeof profile->product_rows);
}

void gd_profile_begin(gd_profile *profile) {
  if (++profile->begun == 2) forget(profile);
  profile->kernels->ops = &profile->wrapped;
  profile->began = gd_machine_seconds();
}

void gd_profile_end(gd_profile *profile) {
  profile->seconds += gd_machine_seconds() - profile->began;
  profile->steps++;
  profile->kernels->ops = profile->real;
}

/* ---- reading ---- */

static int by_time(const void *a, const void *b) {
  double x = ((const gd_profile_row *)a)->seconds, y = ((const gd_profile_row *)b)->seconds;
  return x < y ? 1 : x > y ? -1 : 0;
}

static void name_product(const product *p, char *out, size_t bytes) {
  static const char *const forms[] = {[GD_MATMUL_NT] = "NT", [GD_MATMUL_NN] = "NN", [GD_MATMUL_TN] = "TN"};
  int used = snprintf(out, bytes, "%s %lld x %lld x %lld", forms[p->form], (long long)p->m, (long long)p->n, (long long)p->k);
  if (p->leaves > 1 && (size_t)used < bytes)
    used += snprintf(out + used, bytes - (size_t)used, ", %lld leaves", (long long)p->leaves);
  if (p->end && (size_t)used < bytes)
    snprintf(out + used, bytes - (size_t)used, ", %s", p->end == GD_MATMUL_GELU ? "gelu" : "dgelu");
}

void gd_profile_read(const gd_profile *profile, gd_profile_table *out) {
  memset(out, 0, sizeof *out);
  out->steps = profile->steps;
  out->seconds = profile->seconds;
  out->kernel_count = profile->row_count;
  memcpy(out->kernels, profile->rows, sizeof out->kernels);
  for (int32_t i = 0; i <= GD_PROFILE_PRODUCTS; i++) {
    if (!profile->product_rows[i].calls) continue;
    gd_profile_row *row = &out->products[out->product_count++];
    *row = profile->product_rows[i];
    if (i < GD_PROFILE_PRODUCTS)
      name_product(&profile->products[i], row->name, sizeof row->name);
    else
      snprintf(row->name, sizeof row->name, "other shapes");
  }
  qsort(out->kernels, (size_t)out->kernel_count, sizeof *out->kernels, by_time);
  qsort(out->products, (size_t)out->product_count, sizeof *out->products, by_time);
}

/* ---- the limit of memory ---- */

enum { COPY_BYTES = 256 << 20, COPY_TRIES = 4 }; /* each of the two: far beyond the caches */

static double device_copy_rate(gd_device *device) {
  void *from = NULL, *to = NULL;
  double best = 0;
  gd_status status = device->ops->alloc(device, COPY_BYTES, &from);
  if (status == GD_OK) status = device->ops->alloc(device, COPY_BYTES, &to);
  if (status == GD_OK) status = device->ops->fill(device->compute, from, 1, COPY_BYTES);
  for (int try = 0; status == GD_OK && try <= COPY_TRIES; try++) {
    double start = gd_machine_seconds();
    status = device->ops->copy(device->compute, to, from, COPY_BYTES, GD_COPY_DEVICE_TO_DEVICE);
    if (status == GD_OK) status = device->ops->stream_sync(device->compute);
    double rate = 2.0 * COPY_BYTES / (gd_machine_seconds() - start);
    if (try > 0 && rate > best) best = rate; /* the first one waits for the fill, too */
  }
  device->ops->free(device, to);
  device->ops->free(device, from);
  if (status == GD_OK) return best;
  gd_error_clear(); /* no memory is left for it; a fault of the device shows where it is waited for */
  return 0;
}

static double host_copy_rate(int32_t threads) {
  const size_t bytes = COPY_BYTES;
  int32_t count_of_threads = threads < 1 ? 1 : threads;
  size_t share = bytes / (size_t)count_of_threads;
  char *from = malloc(bytes), *to = malloc(bytes);
  double best = 0;
  for (int try = 0; from && to && try < COPY_TRIES; try++) {
    double start = gd_machine_seconds();
#pragma omp parallel for num_threads(count_of_threads) schedule(static, 1)
    for (int32_t i = 0; i < count_of_threads; i++) {
      if (try == 0) memset(from + (size_t)i * share, 1, share);
      memcpy(to + (size_t)i * share, from + (size_t)i * share, share);
    }
    double rate = 2.0 * (double)share * count_of_threads / (gd_machine_seconds() - start);
    if (try > 0 && rate > best) best = rate; /* the first one took the pages from the system */
  }
  free(from);
  free(to);
  return best;
}

double gd_profile_copy_rate(gd_device *device, int32_t threads) {
  return device->immediate ? host_copy_rate(threads) : device_copy_rate(device);
}
