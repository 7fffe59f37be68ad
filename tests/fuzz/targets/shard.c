/* shard.c - a token shard that is whole HDF5 with the digest its index names, made with values that gptdist never writes: other
 * types and sizes, ids beyond the vocabulary, document positions out of order. The input's first ten bytes choose the sizes,
 * the rest are ids and positions. (HDF5's own reading of bytes that are no HDF5 stands behind the digest: docs/formats.md.) */
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/sha256.h"
#include "io/data/token_shard.h"
#include "tests/fuzz/fuzz.h"

static void put_integer(hid_t file, const char *name, int64_t value) {
  hid_t space = H5Screate(H5S_SCALAR), attribute = H5Acreate2(file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_INT64, &value);
  H5Aclose(attribute);
  H5Sclose(space);
}

static void put_text(hid_t file, const char *name, const char *text, size_t count, bool variable) {
  hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
  char fixed[256] = "";
  const char *pointer = fixed;
  memcpy(fixed, text, count < sizeof fixed ? count : sizeof fixed - 1);
  H5Tset_size(type, variable ? H5T_VARIABLE : (count ? count : 1));
  hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, type, variable ? (const void *)&pointer : fixed);
  H5Aclose(attribute);
  H5Tclose(type);
  H5Sclose(space);
}

static void put_row(hid_t file, const char *name, hid_t type, hid_t memory, int dims, hsize_t count, const void *values) {
  hsize_t size[2] = {count, 1};
  hid_t space = H5Screate_simple(dims, size, NULL),
        data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (count) H5Dwrite(data, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  H5Dclose(data);
  H5Sclose(space);
}

static int64_t value_of(const uint8_t *data, size_t size, size_t at) {
  int64_t value = 0;
  for (size_t i = 0; i < 2; i++) value = value << 8 | (2 * at + i < size ? data[2 * at + i] : 0);
  return value;
}

static void write_shard(const uint8_t *data, size_t size, const char *path) {
  enum { HEAD = 10, MOST = 64 };
  static const hid_t *const types[] = {&H5T_STD_U16LE_g, &H5T_STD_U32LE_g, &H5T_STD_I64LE_g, &H5T_IEEE_F32LE_g};
  uint8_t head[HEAD] = {0};
  int64_t positions[MOST];
  uint32_t ids[MOST];
  memcpy(head, data, size < HEAD ? size : HEAD);
  data += size < HEAD ? size : HEAD;
  size -= size < HEAD ? size : HEAD;
  for (size_t i = 0; i < MOST; i++) ids[i] = (uint32_t)value_of(data, size, i);
  for (size_t i = 0; i < MOST; i++) positions[i] = value_of(data, size, i + head[3] % MOST) - (head[9] & 1);
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  fuzz_check(file >= 0, "cannot write a file of the fuzzer");
  if (head[0] != 'x') put_text(file, "format", "gptdist-tokens", 14 + (head[0] & 1), head[0] & 8);
  put_integer(file, "version", 1 + (head[1] == 'x'));
  put_text(file, "tokenizer", "bytes", 6, head[2] == 'x');
  put_text(file, "tokenizer_digest", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789", head[2] % 75,
           false);
  put_integer(file, "vocabulary", head[4] & 128 ? (int64_t)1 << (head[4] & 31) : (int64_t)head[4] * 256);
  put_integer(file, "eot", (int64_t)head[5] - 1);
  put_integer(file, "tokens", (head[3] % MOST) + (head[6] >> 6 == 3 ? 1 : 0));
  put_integer(file, "documents", head[7] % MOST);
  put_row(file, "tokens", *types[head[6] % 4], H5T_NATIVE_UINT32, head[6] & 32 ? 2 : 1, head[3] % MOST, ids);
  put_row(file, "documents", *types[2 - (head[8] & 1)], H5T_NATIVE_INT64, 1, head[7] % MOST, positions);
  H5Fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[GD_PATH_BYTES];
  uint8_t digest[GD_SHA256_BYTES];
  gd_shard_check check = {0};
  gd_shard_source source = {.path = path, .index = "index.json", .check = &check};
  gd_token_shard *shard = NULL;
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  fuzz_write("shard.h5", "", 0, path);
  write_shard(data, size, path);
  fuzz_must(gd_sha256_file(path, digest, NULL));
  gd_sha256_hex(digest, source.sha256);
  if (!fuzz_accepted(gd_token_shard_open(&source, &shard), GD_BAD_DATA)) return 0;
  const gd_token_shard_info *info = gd_token_shard_get_info(shard);
  int32_t ids[256];
  int64_t positions[256], document;
  fuzz_check(info->tokens <= 256 && info->documents <= info->tokens, "a shard is larger than its file");
  if (fuzz_accepted(gd_token_shard_read(shard, 0, info->tokens, ids), GD_BAD_DATA))
    for (int64_t i = 0; i < info->tokens; i++)
      fuzz_check(ids[i] >= 0 && ids[i] < info->vocabulary, "an id beyond the vocabulary");
  bool good = fuzz_accepted(gd_token_shard_documents(shard, 0, info->documents, positions), GD_BAD_DATA);
  for (int64_t token = 0; token < info->tokens; token += 3) {
    if (!fuzz_accepted(gd_token_shard_find_document(shard, token, &document), GD_BAD_DATA)) continue;
    fuzz_check(good && document >= 0 && document <= info->documents, "a document that is not there");
    if (document) fuzz_check(positions[document - 1] <= token, "a document begins behind its token");
  }
  gd_token_shard_close(shard);
  return 0;
}
