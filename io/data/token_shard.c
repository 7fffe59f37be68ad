/* token_shard.c - one HDF5 file of token ids, written and read. */
#include "io/data/token_shard.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/base/hdf5.h"

enum {
  FORMAT_VERSION = 2, /* 1: plain text */
  MAX_COLUMNS = 65536,
  CHUNK_TOKENS = 16384, /* a random window of 1024 tokens costs one or two chunks of 32 KiB */
  CHUNK_DOCUMENTS = 1024,
  CACHE_BYTES = 4 << 20,
  PIECE_TOKENS = 65536,
};
static const char format_name[] = "gptdist-tokens";

struct gd_token_shard_writer {
  char *path;
  hid_t file, tokens, targets;
  gd_token_shard_info info;
  int64_t written, targets_written;
  bool documents_set, labels_set;
  void *piece; /* PIECE_TOKENS of the stored type */
};

struct gd_token_shard {
  char *path;
  hid_t file, tokens, documents, targets, labels;
  bool wide;
  uint64_t identity; /* of the file whose digest was right */
  gd_token_shard_info info;
  void *piece;
  int64_t block; /* first document of block[] below, -1 when none is loaded */
  int64_t block_positions[CHUNK_DOCUMENTS];
};

static bool is_wide(int32_t vocabulary) {
  return vocabulary > 65536;
}

static hid_t memory_type(bool wide) {
  return wide ? H5T_NATIVE_UINT32 : H5T_NATIVE_UINT16;
}

/* ---- writing ---- */

static herr_t put_integer(hid_t file, const char *name, int64_t value) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(file, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
  herr_t result = gd_hdf5_failed(attribute) || gd_hdf5_failed(H5Awrite(attribute, H5T_NATIVE_INT64, &value)) ? -1 : 0;
  if (attribute >= 0) H5Aclose(attribute);
  H5Sclose(space);
  return result;
}

static herr_t put_text(hid_t file, const char *name, const char *value) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, strlen(value) + 1);
  H5Tset_cset(type, H5T_CSET_UTF8);
  hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  herr_t result = gd_hdf5_failed(attribute) || gd_hdf5_failed(H5Awrite(attribute, type, value)) ? -1 : 0;
  if (attribute >= 0) H5Aclose(attribute);
  H5Tclose(type);
  H5Sclose(space);
  return result;
}

static herr_t put_attributes(hid_t file, const gd_token_shard_info *info) {
  if (put_text(file, "format", format_name) < 0 || put_integer(file, "version", info->examples ? FORMAT_VERSION : 1) < 0)
    return -1;
  if (info->examples && put_integer(file, "columns", info->columns) < 0) return -1;
  if (put_text(file, "tokenizer", info->tokenizer) < 0) return -1;
  if (put_text(file, "tokenizer_digest", info->tokenizer_digest) < 0) return -1;
  if (put_integer(file, "vocabulary", info->vocabulary) < 0 || put_integer(file, "eot", info->eot) < 0) return -1;
  return put_integer(file, "tokens", info->tokens);
}

/* columns 0: of one dimension. */
static hid_t create_dataset(hid_t file, const char *name, hid_t type, int64_t count, int32_t columns, int64_t chunk) {
  hsize_t size[2] = {(hsize_t)count, (hsize_t)columns};
  hsize_t piece[2] = {(hsize_t)(chunk < count ? chunk : (count > 0 ? count : 1)), (hsize_t)columns};
  int dimensions = columns ? 2 : 1;
  hid_t space = H5Screate_simple(dimensions, size, NULL);
  hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_obj_track_times(properties, false); /* equal content gives equal files */
  hid_t dataset = -1;
  if (count == 0 || (H5Pset_chunk(properties, dimensions, piece) >= 0 && H5Pset_fletcher32(properties) >= 0 &&
                     H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) >= 0))
    dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  if (gd_hdf5_failed(dataset)) dataset = -1;
  H5Pclose(properties);
  H5Sclose(space);
  return dataset;
}

gd_status gd_token_shard_create(const char *path, const gd_token_shard_info *info, gd_token_shard_writer **out) {
  *out = NULL;
  gd_token_shard_writer *writer = calloc(1, sizeof *writer);
  if (!writer) return gd_fail(GD_NO_MEMORY, "no memory for a shard writer");
  *writer = (gd_token_shard_writer){.path = strdup(path), .file = -1, .tokens = -1, .targets = -1, .info = *info};
  writer->piece = malloc(PIECE_TOKENS * sizeof(uint32_t));
  if (!writer->path || !writer->piece) {
    gd_token_shard_abandon(writer);
    return gd_fail(GD_NO_MEMORY, "no memory for a shard writer");
  }
  gd_hdf5_enter();
  gd_status status = GD_OK;
  hid_t list = gd_hdf5_access();
  writer->file = gd_hdf5_failed(list) ? -1 : H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, list);
  if (gd_hdf5_failed(writer->file) || put_attributes(writer->file, info) < 0 ||
      (writer->tokens = create_dataset(writer->file, "tokens", is_wide(info->vocabulary) ? H5T_STD_U32LE : H5T_STD_U16LE,
                                       info->tokens, 0, CHUNK_TOKENS)) < 0 ||
      (info->examples &&
       (writer->targets = create_dataset(writer->file, "targets", H5T_STD_U8LE, info->tokens, 0, CHUNK_TOKENS)) < 0))
    status = gd_fail(GD_IO, "cannot write %s: %s", path, gd_hdf5_text());
  if (list >= 0) H5Pclose(list);
  gd_hdf5_leave();
  if (status != GD_OK) {
    gd_token_shard_abandon(writer);
    return status;
  }
  *out = writer;
  return GD_OK;
}

gd_status gd_token_shard_append(gd_token_shard_writer *writer, const int32_t *ids, int64_t count) {
  const gd_token_shard_info *info = &writer->info;
  if (count > info->tokens - writer->written)
    return gd_fail(GD_BUG, "%s: more tokens than the %lld announced", writer->path, (long long)info->tokens);
  bool wide = is_wide(info->vocabulary);
  while (count > 0) {
    int64_t piece = count < PIECE_TOKENS ? count : PIECE_TOKENS;
    for (int64_t i = 0; i < piece; i++) {
      if (ids[i] < 0 || ids[i] >= info->vocabulary)
        return gd_fail(GD_BUG, "%s: id %d is beyond the vocabulary of %d", writer->path, ids[i], info->vocabulary);
      if (wide)
        ((uint32_t *)writer->piece)[i] = (uint32_t)ids[i];
      else
        ((uint16_t *)writer->piece)[i] = (uint16_t)ids[i];
    }
    gd_hdf5_enter();
    gd_status status = GD_OK;
    if (gd_hdf5_transfer(writer->tokens, memory_type(wide), writer->written, piece, writer->piece, NULL) < 0)
      status = gd_fail(GD_IO, "cannot write %s: %s", writer->path, gd_hdf5_text());
    gd_hdf5_leave();
    GD_TRY(status);
    writer->written += piece;
    ids += piece;
    count -= piece;
  }
  return GD_OK;
}

gd_status gd_token_shard_append_targets(gd_token_shard_writer *writer, const uint8_t *targets, int64_t count) {
  if (!writer->info.examples || count > writer->info.tokens - writer->targets_written)
    return gd_fail(GD_BUG, "%s: more targets than announced", writer->path);
  gd_status status = GD_OK;
  gd_hdf5_enter();
  if (gd_hdf5_transfer(writer->targets, H5T_NATIVE_UINT8, writer->targets_written, count, targets, NULL) < 0)
    status = gd_fail(GD_IO, "cannot write %s: %s", writer->path, gd_hdf5_text());
  gd_hdf5_leave();
  writer->targets_written += count;
  return status;
}

gd_status gd_token_shard_set_labels(gd_token_shard_writer *writer, const float *labels, int64_t count) {
  writer->labels_set = true;
  if (!writer->info.columns) return GD_OK;
  gd_status status = GD_OK;
  gd_hdf5_enter();
  hid_t set = create_dataset(writer->file, "labels", H5T_IEEE_F32LE, count, writer->info.columns, CHUNK_DOCUMENTS);
  bool lost = set < 0 || (count && gd_hdf5_failed(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, labels)));
  if (lost) gd_hdf5_let_go(writer->file);
  if (set >= 0 && H5Dclose(set) < 0 && !lost) lost = gd_hdf5_failed(-1);
  if (lost) status = gd_fail(GD_IO, "cannot write %s: %s", writer->path, gd_hdf5_text());
  gd_hdf5_leave();
  return status;
}

gd_status gd_token_shard_set_documents(gd_token_shard_writer *writer, const int64_t *positions, int64_t count) {
  gd_hdf5_enter();
  gd_status status = GD_OK;
  hid_t documents = create_dataset(writer->file, "documents", H5T_STD_I64LE, count, 0, CHUNK_DOCUMENTS);
  /* HDF5 does not change the buffer of a write. */
  bool lost = documents < 0 || put_integer(writer->file, "documents", count) < 0 ||
              (count && gd_hdf5_failed(H5Dwrite(documents, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, positions)));
  lost = lost || gd_hdf5_failed(H5Fflush(writer->file, H5F_SCOPE_LOCAL));
  if (lost) gd_hdf5_let_go(writer->file);
  if (documents >= 0 && H5Dclose(documents) < 0 && !lost) lost = gd_hdf5_failed(-1);
  if (lost) status = gd_fail(GD_IO, "cannot write %s: %s", writer->path, gd_hdf5_text());
  gd_hdf5_leave();
  writer->documents_set = true;
  return status;
}

gd_status gd_token_shard_finish(gd_token_shard_writer *writer) {
  gd_status status = GD_OK;
  const gd_token_shard_info *info = &writer->info;
  bool whole = writer->written == info->tokens && writer->documents_set;
  if (info->examples) whole = whole && writer->targets_written == info->tokens && writer->labels_set;
  if (!whole) {
    status = gd_fail(GD_BUG, "%s: %lld tokens and %lld targets written of %lld", writer->path, (long long)writer->written,
                     (long long)writer->targets_written, (long long)info->tokens);
    gd_token_shard_abandon(writer);
    return status;
  }
  gd_hdf5_enter();
  bool lost = gd_hdf5_failed(H5Fflush(writer->file, H5F_SCOPE_LOCAL)) || gd_hdf5_failed(H5Dclose(writer->tokens));
  writer->tokens = -1;
  if (!lost && writer->targets >= 0) {
    lost = gd_hdf5_failed(H5Dclose(writer->targets));
    writer->targets = -1;
  }
  if (!lost) {
    lost = gd_hdf5_failed(H5Fclose(writer->file));
    writer->file = -1;
  }
  if (lost) status = gd_fail(GD_IO, "cannot write %s: %s", writer->path, gd_hdf5_text());
  gd_hdf5_leave();
  if (status == GD_OK) {
    int file = open(writer->path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fsync(file)) status = gd_fail(GD_IO, "cannot force %s to the disk: %s", writer->path, strerror(errno));
    if (file >= 0) close(file);
  }
  gd_token_shard_abandon(writer);
  return status;
}

void gd_token_shard_abandon(gd_token_shard_writer *writer) {
  if (!writer) return;
  gd_hdf5_enter();
  if (writer->file >= 0) gd_hdf5_let_go(writer->file);
  if (writer->targets >= 0) H5Dclose(writer->targets);
  if (writer->tokens >= 0) H5Dclose(writer->tokens);
  if (writer->file >= 0) H5Fclose(writer->file);
  H5Eclear2(H5E_DEFAULT);
  gd_hdf5_leave();
  free(writer->piece);
  free(writer->path);
  free(writer);
}

/* ---- reading ---- */

static gd_status get_integer(const char *path, hid_t file, const char *name, int64_t low, int64_t high, int64_t *out) {
  hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
  hid_t type = attribute < 0 ? -1 : H5Aget_type(attribute);
  hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
  bool good = attribute >= 0 && H5Tget_class(type) == H5T_INTEGER && H5Sget_simple_extent_npoints(space) == 1 &&
              H5Aread(attribute, H5T_NATIVE_INT64, out) >= 0;
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  if (attribute >= 0) H5Aclose(attribute);
  H5Eclear2(H5E_DEFAULT);
  if (!good) return gd_fail_user(GD_BAD_DATA, "%s: no integer attribute \"%s\"; expected a gptdist token shard", path, name);
  if (*out < low || *out > high)
    return gd_fail_user(GD_BAD_DATA, "%s: attribute \"%s\" is %lld, expected %lld to %lld", path, name, (long long)*out,
                        (long long)low, (long long)high);
  return GD_OK;
}

static gd_status get_text(const char *path, hid_t file, const char *name, char *out, size_t size) {
  hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
  hid_t type = attribute < 0 ? -1 : H5Aget_type(attribute);
  hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
  bool good = attribute >= 0 && H5Tget_class(type) == H5T_STRING && !H5Tis_variable_str(type) && H5Tget_size(type) <= size &&
              H5Sget_simple_extent_npoints(space) == 1;
  memset(out, 0, size);
  if (good) good = H5Aread(attribute, type, out) >= 0;
  out[size - 1] = 0;
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  if (attribute >= 0) H5Aclose(attribute);
  H5Eclear2(H5E_DEFAULT);
  if (!good) return gd_fail_user(GD_BAD_DATA, "%s: no text attribute \"%s\"; expected a gptdist token shard", path, name);
  return GD_OK;
}

static gd_status get_attributes(const char *path, hid_t file, gd_token_shard_info *info) {
  char format[64];
  int64_t value;
  GD_TRY(get_text(path, file, "format", format, sizeof format));
  if (strcmp(format, format_name) != 0)
    return gd_fail_user(GD_BAD_DATA, "%s: format is \"%s\", expected \"%s\"", path, format, format_name);
  GD_TRY(get_integer(path, file, "version", INT64_MIN, INT64_MAX, &value));
  if (value < 1 || value > FORMAT_VERSION)
    return gd_fail_user(GD_BAD_DATA, "%s: format version %lld, this program reads versions 1 to %d", path, (long long)value,
                        FORMAT_VERSION);
  info->examples = value > 1;
  if (info->examples) {
    GD_TRY(get_integer(path, file, "columns", 0, MAX_COLUMNS, &value));
    info->columns = (int32_t)value;
  }
  GD_TRY(get_text(path, file, "tokenizer", info->tokenizer, sizeof info->tokenizer));
  GD_TRY(get_text(path, file, "tokenizer_digest", info->tokenizer_digest, sizeof info->tokenizer_digest));
  GD_TRY(get_integer(path, file, "vocabulary", 1, INT32_MAX, &value));
  info->vocabulary = (int32_t)value;
  GD_TRY(get_integer(path, file, "eot", -1, info->vocabulary - 1, &value));
  info->eot = (int32_t)value;
  GD_TRY(get_integer(path, file, "tokens", 0, INT64_MAX, &info->tokens));
  return get_integer(path, file, "documents", 0, info->tokens, &info->documents);
}

/* columns 0: integers in a row; else float32 [count][columns]. */
static gd_status open_dataset(const char *path, hid_t file, const char *name, int64_t count, int32_t columns, hid_t *out,
                              size_t *type_bytes) {
  hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
  H5Pset_chunk_cache(access, 521, CACHE_BYTES, 1.0);
  *out = H5Dopen2(file, name, access);
  bool missing = gd_hdf5_failed(*out);
  H5Pclose(access);
  if (missing) return gd_fail_user(gd_hdf5_status(GD_BAD_DATA), "%s: no dataset \"%s\": %s", path, name, gd_hdf5_text());
  hid_t space = H5Dget_space(*out), type = H5Dget_type(*out);
  int dims = H5Sget_simple_extent_ndims(space);
  hsize_t size[2] = {0, 0};
  bool shaped = dims == (columns ? 2 : 1) && H5Sget_simple_extent_dims(space, size, NULL) >= 0;
  int64_t found = (int64_t)size[0];
  bool typed = H5Tget_class(type) == (columns ? H5T_FLOAT : H5T_INTEGER);
  *type_bytes = H5Tget_size(type);
  H5Sclose(space);
  H5Tclose(type);
  if (!columns && (!shaped || !typed)) return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" is not a row of integers", path, name);
  if (columns && (!shaped || !typed || *type_bytes != sizeof(float) || size[1] != (hsize_t)columns))
    return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" is not float32 in %d columns", path, name, columns);
  if (found != count)
    return gd_fail_user(GD_BAD_DATA, "%s: \"%s\" has %lld entries, expected %lld from the file's attributes", path, name,
                        (long long)found, (long long)count);
  return GD_OK;
}

/* `file`, whose bytes are known to be right, is opened once more by its number, not by its name. */
static gd_status open_locked(gd_token_shard *shard, int file) {
  const char *path = shard->path;
  char same[40];
  snprintf(same, sizeof same, "/proc/self/fd/%d", file);
  hid_t list = gd_hdf5_access();
  shard->file = gd_hdf5_failed(list) ? -1 : H5Fopen(same, H5F_ACC_RDONLY, list);
  bool bad = gd_hdf5_failed(shard->file);
  if (list >= 0) H5Pclose(list);
  if (bad)
    return gd_hdf5_status(GD_BAD_DATA) != GD_BAD_DATA
               ? gd_fail(gd_hdf5_status(GD_BAD_DATA), "cannot read %s: %s", path, gd_hdf5_text())
               : gd_fail_user(GD_BAD_DATA, "%s: not a whole HDF5 file (%s), expected a gptdist token shard", path,
                              gd_hdf5_text());
  GD_TRY(get_attributes(path, shard->file, &shard->info));
  size_t type_bytes;
  GD_TRY(open_dataset(path, shard->file, "tokens", shard->info.tokens, 0, &shard->tokens, &type_bytes));
  shard->wide = is_wide(shard->info.vocabulary);
  size_t expected = shard->wide ? sizeof(uint32_t) : sizeof(uint16_t);
  if (type_bytes != expected)
    return gd_fail_user(GD_BAD_DATA, "%s: \"tokens\" has %zu-byte integers, expected %zu-byte ones for a vocabulary of %d",
                        path, type_bytes, expected, shard->info.vocabulary);
  const gd_token_shard_info *info = &shard->info;
  GD_TRY(open_dataset(path, shard->file, "documents", info->documents, 0, &shard->documents, &type_bytes));
  if (info->examples) GD_TRY(open_dataset(path, shard->file, "targets", info->tokens, 0, &shard->targets, &type_bytes));
  if (info->columns)
    GD_TRY(open_dataset(path, shard->file, "labels", info->documents, info->columns, &shard->labels, &type_bytes));
  return GD_OK;
}

gd_status gd_token_shard_open(const gd_shard_source *source, gd_token_shard **out) {
  *out = NULL;
  int file = -1;
  gd_token_shard *shard = calloc(1, sizeof *shard);
  if (!shard) return gd_fail(GD_NO_MEMORY, "no memory for a shard");
  shard->file = shard->tokens = shard->documents = shard->targets = shard->labels = -1;
  shard->block = -1;
  shard->path = strdup(source->path);
  shard->piece = malloc(PIECE_TOKENS * sizeof(uint32_t));
  gd_status status = GD_OK;
  if (!shard->path || !shard->piece) status = gd_fail(GD_NO_MEMORY, "no memory for a shard");
  if (status == GD_OK) status = gd_shard_check_open(source, &file, &shard->identity);
  if (status == GD_OK) {
    gd_hdf5_enter();
    status = open_locked(shard, file);
    gd_hdf5_leave();
    close(file);
  }
  if (status != GD_OK) {
    gd_token_shard_close(shard);
    return status;
  }
  *out = shard;
  return GD_OK;
}

bool gd_token_shard_changed(const gd_token_shard *shard) {
  void *handle = NULL;
  gd_hdf5_enter();
  bool open = H5Fget_vfd_handle(shard->file, H5P_DEFAULT, &handle) >= 0 && handle;
  bool changed = !open || gd_shard_check_identity(*(int *)handle) != shard->identity;
  gd_hdf5_leave();
  return changed;
}

const gd_token_shard_info *gd_token_shard_get_info(const gd_token_shard *shard) {
  return &shard->info;
}

gd_status gd_token_shard_read(gd_token_shard *shard, int64_t first, int64_t count, int32_t *ids) {
  if (first < 0 || count < 0 || count > shard->info.tokens - first)
    return gd_fail(GD_BUG, "%s: tokens %lld + %lld of %lld", shard->path, (long long)first, (long long)count,
                   (long long)shard->info.tokens);
  while (count > 0) {
    int64_t piece = count < PIECE_TOKENS ? count : PIECE_TOKENS;
    gd_status status = GD_OK;
    gd_hdf5_enter();
    if (gd_hdf5_transfer(shard->tokens, memory_type(shard->wide), first, piece, NULL, shard->piece) < 0)
      status = gd_fail_user(gd_hdf5_status(GD_BAD_DATA), "%s: cannot read tokens %lld to %lld: %s", shard->path,
                            (long long)first, (long long)(first + piece - 1), gd_hdf5_text());
    gd_hdf5_leave();
    GD_TRY(status);
    for (int64_t i = 0; i < piece; i++) {
      uint32_t id = shard->wide ? ((const uint32_t *)shard->piece)[i] : ((const uint16_t *)shard->piece)[i];
      if (id >= (uint32_t)shard->info.vocabulary)
        return gd_fail_user(GD_BAD_DATA, "%s: token %lld is id %u, expected an id below the vocabulary of %d", shard->path,
                            (long long)(first + i), id, shard->info.vocabulary);
      ids[i] = (int32_t)id;
    }
    ids += piece;
    first += piece;
    count -= piece;
  }
  return GD_OK;
}

gd_status gd_token_shard_documents(gd_token_shard *shard, int64_t first, int64_t count, int64_t *positions) {
  if (first < 0 || count < 0 || count > shard->info.documents - first)
    return gd_fail(GD_BUG, "%s: documents %lld + %lld of %lld", shard->path, (long long)first, (long long)count,
                   (long long)shard->info.documents);
  if (count == 0) return GD_OK;
  gd_status status = GD_OK;
  gd_hdf5_enter();
  if (gd_hdf5_transfer(shard->documents, H5T_NATIVE_INT64, first, count, NULL, positions) < 0)
    status = gd_fail_user(gd_hdf5_status(GD_BAD_DATA), "%s: cannot read documents %lld to %lld: %s", shard->path,
                          (long long)first, (long long)(first + count - 1), gd_hdf5_text());
  gd_hdf5_leave();
  GD_TRY(status);
  for (int64_t i = 0; i < count; i++) {
    if (positions[i] < 0 || positions[i] >= shard->info.tokens || (i && positions[i] < positions[i - 1]))
      return gd_fail_user(GD_BAD_DATA, "%s: document %lld begins at %lld, expected ascending positions below %lld", shard->path,
                          (long long)(first + i), (long long)positions[i], (long long)shard->info.tokens);
  }
  return GD_OK;
}

gd_status gd_token_shard_targets(gd_token_shard *shard, int64_t first, int64_t count, uint8_t *targets) {
  if (!shard->info.examples || first < 0 || count < 0 || count > shard->info.tokens - first)
    return gd_fail(GD_BUG, "%s: targets %lld + %lld of %lld", shard->path, (long long)first, (long long)count,
                   (long long)shard->info.tokens);
  if (count == 0) return GD_OK;
  gd_status status = GD_OK;
  gd_hdf5_enter();
  if (gd_hdf5_transfer(shard->targets, H5T_NATIVE_UINT8, first, count, NULL, targets) < 0)
    status = gd_fail_user(gd_hdf5_status(GD_BAD_DATA), "%s: cannot read targets %lld to %lld: %s", shard->path,
                          (long long)first, (long long)(first + count - 1), gd_hdf5_text());
  gd_hdf5_leave();
  GD_TRY(status);
  for (int64_t i = 0; i < count; i++)
    if (targets[i] > 1)
      return gd_fail_user(GD_BAD_DATA, "%s: target %lld is %d, expected 0 or 1", shard->path, (long long)(first + i),
                          targets[i]);
  return GD_OK;
}

gd_status gd_token_shard_labels(gd_token_shard *shard, int64_t first, int64_t count, float *labels) {
  const gd_token_shard_info *info = &shard->info;
  if (!info->columns || first < 0 || count < 0 || count > info->documents - first)
    return gd_fail(GD_BUG, "%s: labels %lld + %lld of %lld", shard->path, (long long)first, (long long)count,
                   (long long)info->documents);
  if (count == 0) return GD_OK;
  hsize_t start[2] = {(hsize_t)first, 0}, size[2] = {(hsize_t)count, (hsize_t)info->columns};
  gd_status status = GD_OK;
  gd_hdf5_enter();
  hid_t space = H5Dget_space(shard->labels), memory = H5Screate_simple(2, size, NULL);
  if (gd_hdf5_failed(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL)) ||
      gd_hdf5_failed(H5Dread(shard->labels, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, labels)))
    status = gd_fail_user(gd_hdf5_status(GD_BAD_DATA), "%s: cannot read labels of documents %lld to %lld: %s", shard->path,
                          (long long)first, (long long)(first + count - 1), gd_hdf5_text());
  H5Sclose(memory);
  H5Sclose(space);
  gd_hdf5_leave();
  GD_TRY(status);
  for (int64_t i = 0; i < count * info->columns; i++)
    if (!isfinite(labels[i]))
      return gd_fail_user(GD_BAD_DATA, "%s: a label of document %lld is not a finite number", shard->path,
                          (long long)(first + i / info->columns));
  return GD_OK;
}

gd_status gd_token_shard_find_document(gd_token_shard *shard, int64_t token, int64_t *out) {
  int64_t low = 0, high = shard->info.documents; /* the answer is in low .. high */
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int64_t block = middle / CHUNK_DOCUMENTS * CHUNK_DOCUMENTS;
    if (block != shard->block) {
      int64_t left = shard->info.documents - block;
      shard->block = -1;
      GD_TRY(gd_token_shard_documents(shard, block, left < CHUNK_DOCUMENTS ? left : CHUNK_DOCUMENTS, shard->block_positions));
      shard->block = block;
    }
    if (shard->block_positions[middle - block] <= token)
      low = middle + 1;
    else
      high = middle;
  }
  *out = low;
  return GD_OK;
}

void gd_token_shard_close(gd_token_shard *shard) {
  if (!shard) return;
  gd_hdf5_enter();
  if (shard->labels >= 0) H5Dclose(shard->labels);
  if (shard->targets >= 0) H5Dclose(shard->targets);
  if (shard->documents >= 0) H5Dclose(shard->documents);
  if (shard->tokens >= 0) H5Dclose(shard->tokens);
  if (shard->file >= 0) H5Fclose(shard->file);
  H5Eclear2(H5E_DEFAULT);
  gd_hdf5_leave();
  free(shard->piece);
  free(shard->path);
  free(shard);
}
