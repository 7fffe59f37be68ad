/* tables.h - whether a back end's table has every slot filled: an ops struct is walked as an array of pointers behind its first
 * members. The static asserts count the slots, so that a new one is looked at here too. */
#ifndef GD_TESTS_TABLES_H
#define GD_TESTS_TABLES_H

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "comm/collectives.h"
#include "comm/device.h"
#include "trainer/kernels.h"

enum { TABLE_POINTER = sizeof(void (*)(void)) };
static_assert(sizeof(gd_kernels_ops) == 36 * TABLE_POINTER, "name, bfloat16 and 34 functions");
static_assert(sizeof(gd_device_ops) == 19 * TABLE_POINTER, "name and 18 functions");
static_assert(sizeof(gd_collectives_ops) == 10 * TABLE_POINTER, "name and 9 functions");

/* The index of the first empty slot of the bytes [from, bytes) of a table; -1: all are filled. */
static inline int table_empty_slot(const void *table, size_t from, size_t bytes) {
  for (size_t at = from; at < bytes; at += TABLE_POINTER) {
    const void *slot;
    memcpy(&slot, (const char *)table + at, sizeof slot);
    if (!slot) return (int)((at - from) / TABLE_POINTER);
  }
  return -1;
}
static inline int table_empty_kernel(const gd_kernels_ops *ops) {
  return ops->name ? table_empty_slot(ops, offsetof(gd_kernels_ops, matmul), sizeof *ops) : 0;
}
static inline int table_empty_device(const gd_device_ops *ops) {
  return table_empty_slot(ops, 0, sizeof *ops);
}
static inline int table_empty_collective(const gd_collectives_ops *ops) {
  return table_empty_slot(ops, 0, sizeof *ops);
}

#endif
