/* split.h - one split of a dataset: a folder with index.json and token shards, read as one stream of tokens. */
#ifndef GD_IO_DATA_SPLIT_H
#define GD_IO_DATA_SPLIT_H

#include "io/data/task.h"
#include "io/data/token_shard.h"

typedef struct gd_split gd_split;

/* Reads index.json, after its own digest, and checks that every shard it names is there; shards are opened when first read,
 * each after its digest (shard_check.h), at most eight at once. GD_BAD_DATA: no dataset there, or a damaged one. GD_IO. Local.
 */
GD_CHECKED gd_status gd_split_open(const char *folder, gd_split **out);
void gd_split_close(gd_split *split);

const char *gd_split_folder(const gd_split *split);
const char *gd_split_digest(const gd_split *split);              /* SHA-256 of index.json, hexadecimal */
const gd_token_shard_info *gd_split_info(const gd_split *split); /* sums over the shards */
const gd_data_task *gd_split_task(const gd_split *split);        /* what its documents are for */
int32_t gd_split_shards(const gd_split *split);
const char *gd_split_shard_path(const gd_split *split, int32_t shard);
int64_t gd_split_shard_first(const gd_split *split, int32_t shard); /* stream position of its first token */

/* ids[count] = tokens first .. first + count - 1 of the stream. Not safe from several threads at once. */
GD_CHECKED gd_status gd_split_read(gd_split *split, int64_t first, int64_t count, int32_t *ids);

/* Of a task's split: where the documents lie and how long they are, starts[documents + 1] in the stream, the last one its end.
 * GD_BAD_DATA: an empty document, tokens that belong to none, or a longest one that is not as long as the index says. */
GD_CHECKED gd_status gd_split_documents(gd_split *split, int64_t *starts);

/* Of a task's split, as gd_split_read: targets[count] of tokens first .. first + count - 1; labels[columns] of a document. */
GD_CHECKED gd_status gd_split_targets(gd_split *split, int64_t first, int64_t count, uint8_t *targets);
GD_CHECKED gd_status gd_split_labels(gd_split *split, int64_t document, float *labels);

/* Records of the checks of all shards, gd_split_shards of them, that others use, too; the caller's to keep. Without them the
 * split has its own. Before the first read. */
void gd_split_share_checks(gd_split *split, gd_shard_check *checks, gd_shard_check_cost *cost);

/* Compares a shard with its digest where nobody has done that or is at it. GD_BAD_DATA, GD_IO. */
GD_CHECKED gd_status gd_split_check(const gd_split *split, int32_t shard);

/* The shard that holds stream position `token`. */
int32_t gd_split_find(const gd_split *split, int64_t token);

/* starts[count]: for tokens first .. first + count - 1 the index, relative to `first`, at which the token's document begins (0
 * where it began before). */
GD_CHECKED gd_status gd_split_document_starts(gd_split *split, int64_t first, int64_t count, int32_t *starts);

/* Reads everything: digests, checksums, ids, document positions. GD_BAD_DATA naming the first file that is not whole. */
GD_CHECKED gd_status gd_split_verify(gd_split *split);

/* Writing the index of shards already in the folder; `info` holds the sums. task: all zeros for plain text. */
typedef struct gd_split_entry {
  char file[32];
  int64_t tokens, documents;
  char sha256[GD_SHA256_HEX_BYTES];
} gd_split_entry;
GD_CHECKED gd_status gd_split_write_index(const char *folder, const gd_token_shard_info *info, const gd_data_task *task,
                                          const gd_split_entry *entries, int32_t count);

#endif
