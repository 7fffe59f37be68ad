/* sha256.c - SHA-256 of bytes and files, computed by OpenSSL. */
#include "io/base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"
#include "shard/base/progress.h"

struct gd_sha256 {
  EVP_MD_CTX *context;
  bool started;
};

gd_status gd_sha256_open(gd_sha256 **out) {
  *out = NULL;
  gd_sha256 *sha256 = calloc(1, sizeof *sha256);
  if (!sha256) return gd_fail(GD_NO_MEMORY, "no memory for a digest");
  sha256->context = EVP_MD_CTX_new();
  if (!sha256->context) {
    free(sha256);
    return gd_fail(GD_NO_MEMORY, "no memory for a digest");
  }
  *out = sha256;
  return GD_OK;
}

static gd_status start(gd_sha256 *sha256) {
  if (sha256->started) return GD_OK;
  if (EVP_DigestInit_ex(sha256->context, EVP_sha256(), NULL) != 1) return gd_fail(GD_BUG, "OpenSSL has no SHA-256");
  sha256->started = true;
  return GD_OK;
}

gd_status gd_sha256_update(gd_sha256 *sha256, const void *bytes, size_t count) {
  GD_TRY(start(sha256));
  if (count && EVP_DigestUpdate(sha256->context, bytes, count) != 1) return gd_fail(GD_BUG, "SHA-256 update failed");
  return GD_OK;
}

gd_status gd_sha256_finish(gd_sha256 *sha256, uint8_t digest[GD_SHA256_BYTES]) {
  GD_TRY(start(sha256));
  if (EVP_DigestFinal_ex(sha256->context, digest, NULL) != 1) return gd_fail(GD_BUG, "SHA-256 finish failed");
  sha256->started = false;
  return GD_OK;
}

void gd_sha256_close(gd_sha256 *sha256) {
  if (!sha256) return;
  EVP_MD_CTX_free(sha256->context);
  free(sha256);
}

gd_status gd_sha256_bytes(const void *bytes, size_t count, uint8_t digest[GD_SHA256_BYTES]) {
  if (EVP_Digest(count ? bytes : "", count, digest, NULL, EVP_sha256(), NULL) != 1) return gd_fail(GD_BUG, "SHA-256 failed");
  return GD_OK;
}

gd_status gd_sha256_file(const char *path, uint8_t digest[GD_SHA256_BYTES], int64_t *file_bytes) {
  enum { PIECE_BYTES = 1 << 20 };
  gd_sha256 *sha256 = NULL;
  int64_t total = 0;
  char *piece = malloc(PIECE_BYTES);
  if (!piece) return gd_fail(GD_NO_MEMORY, "no memory to read %s", path);
  gd_status status = GD_OK;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    status = gd_fail(gd_fault_listed(errno), "cannot open %s: %s", path, strerror(errno));
    goto done;
  }
  GD_TRY_GOTO(status, done, gd_sha256_open(&sha256));
  for (;;) {
    ssize_t got = read(file, piece, PIECE_BYTES);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      status = gd_fail(gd_fault_listed(errno), "cannot read %s: %s", path, strerror(errno));
      goto done;
    }
    if (got == 0) break;
    total += got;
    GD_TRY_GOTO(status, done, gd_sha256_update(sha256, piece, (size_t)got));
    gd_progress();
  }
  status = gd_sha256_finish(sha256, digest);
  if (file_bytes) *file_bytes = total;
done:
  if (file >= 0) close(file);
  gd_sha256_close(sha256);
  free(piece);
  return status;
}

void gd_sha256_hex(const uint8_t digest[GD_SHA256_BYTES], char hex[GD_SHA256_HEX_BYTES]) {
  static const char digits[] = "0123456789abcdef";
  for (int i = 0; i < GD_SHA256_BYTES; i++) {
    hex[2 * i] = digits[digest[i] >> 4];
    hex[2 * i + 1] = digits[digest[i] & 15];
  }
  hex[2 * GD_SHA256_BYTES] = 0;
}
