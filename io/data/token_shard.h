/* token_shard.h - one HDF5 file of token ids (docs/formats.md): datasets `tokens` (uint16 where the vocabulary fits, else
 * uint32; chunked, Fletcher-32) and `documents` (int64, position of the first token of every document that begins in the file),
 * and attributes format, version, tokenizer, tokenizer_digest, vocabulary, eot, tokens, documents. Version 2 has `targets` and,
 * where there are columns, `labels` too. Calls are local and hold gd_hdf5_lock while in HDF5. */
#ifndef GD_IO_DATA_TOKEN_SHARD_H
#define GD_IO_DATA_TOKEN_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "io/data/shard_check.h"

typedef struct gd_token_shard_info {
  char tokenizer[64];
  char tokenizer_digest[GD_SHA256_HEX_BYTES];
  int32_t vocabulary;
  int32_t eot; /* -1: none */
  int64_t tokens;
  int64_t documents;
  bool examples;   /* version 2: targets, and labels of `columns` */
  int32_t columns; /* 0: no labels */
} gd_token_shard_info;

/* Writing: info->tokens ids (of version 2 with as many targets) are then appended in pieces, the document positions are set
 * once (info->documents is not read), finish checks, closes the file and forces it to the disk. `abandon` closes without that.
 * GD_IO naming the file (disk full and the like). */
typedef struct gd_token_shard_writer gd_token_shard_writer;
GD_CHECKED gd_status gd_token_shard_create(const char *path, const gd_token_shard_info *info, gd_token_shard_writer **out);
GD_CHECKED gd_status gd_token_shard_append(gd_token_shard_writer *writer, const int32_t *ids, int64_t count);
/* targets[count], 0 or 1, of version 2: those of the next tokens. */
GD_CHECKED gd_status gd_token_shard_append_targets(gd_token_shard_writer *writer, const uint8_t *targets, int64_t count);
/* labels[count][columns], NULL without columns. */
GD_CHECKED gd_status gd_token_shard_set_labels(gd_token_shard_writer *writer, const float *labels, int64_t count);
GD_CHECKED gd_status gd_token_shard_set_documents(gd_token_shard_writer *writer, const int64_t *positions, int64_t count);
GD_CHECKED gd_status gd_token_shard_finish(gd_token_shard_writer *writer);
void gd_token_shard_abandon(gd_token_shard_writer *writer);

/* Reading. Nothing is parsed of a file whose digest is another than its index says (shard_check.h), and HDF5 opens the very
 * file that was compared, whatever bears its name by then. GD_IO where the file cannot be opened; GD_BAD_DATA, naming the file,
 * what was found and what was expected, for another digest, and for a file that was written so: foreign, of another version,
 * sizes that do not agree, a failed checksum, an id beyond the vocabulary. */
typedef struct gd_token_shard gd_token_shard;
GD_CHECKED gd_status gd_token_shard_open(const gd_shard_source *source, gd_token_shard **out);
/* Whether the open file has been written to, replaced or removed since it was compared with its digest. */
bool gd_token_shard_changed(const gd_token_shard *shard);
const gd_token_shard_info *gd_token_shard_get_info(const gd_token_shard *shard);
/* ids[count] = tokens first .. first + count - 1. */
GD_CHECKED gd_status gd_token_shard_read(gd_token_shard *shard, int64_t first, int64_t count, int32_t *ids);
/* positions[count] = documents first .. first + count - 1. */
GD_CHECKED gd_status gd_token_shard_documents(gd_token_shard *shard, int64_t first, int64_t count, int64_t *positions);
/* Of version 2: targets[count] of tokens, each 0 or 1; labels[count][columns] of documents, finite. */
GD_CHECKED gd_status gd_token_shard_targets(gd_token_shard *shard, int64_t first, int64_t count, uint8_t *targets);
GD_CHECKED gd_status gd_token_shard_labels(gd_token_shard *shard, int64_t first, int64_t count, float *labels);
/* *out = how many documents begin at or before `token` (binary search). */
GD_CHECKED gd_status gd_token_shard_find_document(gd_token_shard *shard, int64_t token, int64_t *out);
void gd_token_shard_close(gd_token_shard *shard);

#endif
