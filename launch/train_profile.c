/* train_profile.c - the table of log.profile: what each kernel and each shape of product took, and how near it came to the
 * limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/train_report.h"
#include "shard/base/log.h"

enum { SHOWN_PRODUCTS = 20 }; /* the rest is one line */

typedef struct limits {
  double step_seconds; /* of all steps */
  double peak, copy;   /* operations and bytes a second; 0 = unknown */
} limits;

static double rate(double amount, double seconds) {
  return seconds > 0 ? amount / seconds : 0; /* a coarse clock may have seen nothing */
}

/* The share of the limit that is the nearer one, and which that is. */
static double limit_share(const gd_profile_row *row, const limits *l, const char **which) {
  double peak = l->peak > 0 ? rate(row->work.operations, row->seconds) / l->peak : 0;
  double copy = l->copy > 0 ? rate(row->work.bytes, row->seconds) / l->copy : 0;
  *which = peak > copy ? "peak" : "copy";
  return peak > copy ? peak : copy;
}

static void log_row(const gd_profile_row *row, const limits *l) {
  const char *which;
  double share = limit_share(row, l, &which);
  gd_log(GD_LOG_INFO, "%-36s %8lld %10.4f %6.1f %% %9.3f %9.3f %9.2f %8.2f %6.1f %% %s", row->name, (long long)row->calls,
         row->seconds, 100 * rate(row->seconds, l->step_seconds), row->work.bytes / 1e9, row->work.operations / 1e9,
         rate(row->work.operations, row->seconds) / 1e9, rate(row->work.bytes, row->seconds) / 1e9, 100 * share, which);
}

static void log_head(const char *what) {
  gd_log(GD_LOG_INFO, "%-36s %8s %10s %8s %9s %9s %9s %8s %s", what, "calls", "seconds", "step", "GB", "GFLOP", "GFLOP/s",
         "GB/s", "  of limit");
}

static void log_products(const gd_profile_table *table, const limits *l) {
  gd_profile_row rest = {.name = ""};
  log_head("product, m x n x k");
  for (int32_t i = 0; i < table->product_count; i++) {
    const gd_profile_row *row = &table->products[i];
    if (i < SHOWN_PRODUCTS) {
      log_row(row, l);
      continue;
    }
    rest.calls += row->calls;
    rest.seconds += row->seconds;
    rest.work.bytes += row->work.bytes;
    rest.work.operations += row->work.operations;
  }
  snprintf(rest.name, sizeof rest.name, "%d other shapes", table->product_count - SHOWN_PRODUCTS);
  if (rest.calls) log_row(&rest, l);
}

static void log_table(const gd_profile_table *table, const limits *l) {
  double inside = 0;
  gd_log(GD_LOG_INFO,
         "kernels of rank 0 in %lld step%s, %.3f s; limits: peak %.1f GFLOP/s of products, copy %.1f GB/s of memory",
         (long long)table->steps, table->steps == 1 ? "" : "s", l->step_seconds, l->peak / 1e9, l->copy / 1e9);
  log_head("kernel");
  for (int32_t i = 0; i < table->kernel_count; i++) {
    log_row(&table->kernels[i], l);
    inside += table->kernels[i].seconds;
  }
  double outside = l->step_seconds - inside;
  gd_log(GD_LOG_INFO, "%-36s %8s %10.4f %6.1f %%", "outside of kernels", "", outside, 100 * rate(outside, l->step_seconds));
  log_products(table, l);
}

static gd_status json_rows(gd_bytes *out, const char *name, const gd_profile_row *rows, int32_t count, const limits *l) {
  GD_TRY(gd_bytes_printf(out, ", \"%s\": [", name));
  for (int32_t i = 0; i < count; i++) {
    const gd_profile_row *row = &rows[i];
    const char *which;
    double share = limit_share(row, l, &which);
    GD_TRY(gd_bytes_printf(out,
                           "%s{\"name\": \"%s\", \"calls\": %lld, \"seconds\": %.9g, \"share\": %.9g, \"bytes\": %.17g, "
                           "\"operations\": %.17g, \"operations_per_s\": %.9g, \"bytes_per_s\": %.9g, \"limit\": \"%s\", "
                           "\"limit_share\": %.9g}",
                           i ? ", " : "", row->name, (long long)row->calls, row->seconds, rate(row->seconds, l->step_seconds),
                           row->work.bytes, row->work.operations, rate(row->work.operations, row->seconds),
                           rate(row->work.bytes, row->seconds), which, share));
  }
  return gd_bytes_append(out, "]", 1);
}

gd_status gd_train_profile_tell(const gd_profile *profile, gd_device *device, double peak_flops, int32_t threads,
                                gd_bytes *fields) {
  gd_profile_table *table = malloc(sizeof *table);
  if (!table) return gd_fail(GD_NO_MEMORY, "no memory for the table of the profile");
  gd_profile_read(profile, table);
  gd_status status = GD_OK;
  if (table->steps) {
    limits l = {.step_seconds = table->seconds, .peak = peak_flops, .copy = gd_profile_copy_rate(device, threads)};
    log_table(table, &l);
    GD_TRY_GOTO(status, done,
                gd_bytes_printf(fields,
                                ", \"steps\": %lld, \"seconds\": %.9g, \"peak_operations_per_s\": %.9g, "
                                "\"copy_bytes_per_s\": %.9g",
                                (long long)table->steps, l.step_seconds, l.peak, l.copy));
    GD_TRY_GOTO(status, done, json_rows(fields, "kernels", table->kernels, table->kernel_count, &l));
    GD_TRY_GOTO(status, done, json_rows(fields, "products", table->products, table->product_count, &l));
  }
done:
  free(table);
  return status;
}
