/* sha256.h - SHA-256 of bytes and files (FIPS 180-4, computed by OpenSSL). All calls are local. */
#ifndef GD_IO_BASE_SHA256_H
#define GD_IO_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

enum { GD_SHA256_BYTES = 32, GD_SHA256_HEX_BYTES = 65 /* 64 digits and the terminating zero */ };

typedef struct gd_sha256 gd_sha256;

/* Incremental: open, any number of updates, finish (digest[GD_SHA256_BYTES]), close. After finish the next update starts a
 * new digest. GD_NO_MEMORY, GD_BUG (the library refused). */
GD_CHECKED gd_status gd_sha256_open(gd_sha256 **out);
GD_CHECKED gd_status gd_sha256_update(gd_sha256 *sha256, const void *bytes, size_t count);
GD_CHECKED gd_status gd_sha256_finish(gd_sha256 *sha256, uint8_t digest[GD_SHA256_BYTES]);
void gd_sha256_close(gd_sha256 *sha256);

/* In one call. */
GD_CHECKED gd_status gd_sha256_bytes(const void *bytes, size_t count, uint8_t digest[GD_SHA256_BYTES]);

/* A whole file, read in pieces. GD_IO naming the file. `file_bytes` (may be NULL) receives its size. */
GD_CHECKED gd_status gd_sha256_file(const char *path, uint8_t digest[GD_SHA256_BYTES], int64_t *file_bytes);

/* 64 lower-case hexadecimal digits and a zero. */
void gd_sha256_hex(const uint8_t digest[GD_SHA256_BYTES], char hex[GD_SHA256_HEX_BYTES]);

#endif
