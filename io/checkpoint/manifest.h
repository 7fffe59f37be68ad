/* manifest.h - MANIFEST.pb as plain C: encode, decode with every check, write and read with its digests. All calls are local.
 *
 * SHA256SUMS stands beside it and lists every file of the checkpoint, the manifest last, as `sha256sum -c` reads it. It is a
 * pure function of the manifest's bytes, so a flipped bit in either is seen. */
#ifndef GD_IO_CHECKPOINT_MANIFEST_H
#define GD_IO_CHECKPOINT_MANIFEST_H

#include "io/base/files.h"
#include "io/base/sha256.h"
#include "io/data/task.h"
#include "shard/mesh.h"
#include "shard/reshard.h"
#include "shard/spec.h"
#include "shard/state.h"

/* The newest that is read. Written is the oldest that says it all: 1 where no tensor is frozen, 2 where the
 * run follows the loss and waits for nothing (gd_run_state_waits). */
enum { GD_MANIFEST_VERSION = 3 };

#define GD_MANIFEST_NAME "MANIFEST.pb"
#define GD_MANIFEST_SUMS "SHA256SUMS"
#define GD_MANIFEST_TOKENIZER "tokenizer"

typedef struct gd_manifest_file {
  char name[GD_NAME_BYTES]; /* no folders in it */
  int64_t bytes;
  uint8_t sha256[GD_SHA256_BYTES];
} gd_manifest_file;

/* The weights that a run began with; "": random ones. */
typedef struct gd_base {
  char path[GD_PATH_BYTES];
  uint8_t sha256[GD_SHA256_BYTES]; /* of its MANIFEST.pb, or of its config.json */
} gd_base;

typedef struct gd_manifest {
  char gptdist_version[32], host[64], isa[32], hdf5_version[32];
  int32_t numbers_version; /* GD_NUMBERS_VERSION of the program that wrote it */
  gd_spec spec;
  gd_mesh mesh;
  gd_run_state state;
  gd_data_task task; /* of the data; all zeros: plain text */
  gd_base base;
  gd_tensor *tensors; /* ascending by name */
  int32_t tensor_count;
  uint8_t *imported; /* [tensor_count]: element type in the model folder it came from, as gd_safetensors_dtype; NULL: trained */
  gd_manifest_file *files, *tokenizer;
  int32_t file_count, tokenizer_count;
  gd_stored_box *boxes;
  int32_t box_count;
  int32_t *index; /* of boxes: gd_reshard_index; this and what follows: gd_manifest_check_boxes; made by decode */
  uint32_t kinds; /* mask of 1 << kind, the same for every tensor but the frozen ones, which have weights alone */
} gd_manifest;

/* Frees what the pointers hold. */
void gd_manifest_free(gd_manifest *manifest);

/* Makes index and kinds. GD_BAD_DATA naming the tensor where the boxes do not cover each once in all the kinds that it has. */
GD_CHECKED gd_status gd_manifest_check_boxes(gd_manifest *manifest);
/* The kinds of one of its tensors. */
uint32_t gd_manifest_kinds(const gd_manifest *manifest, int32_t tensor);

/* Appends the message's bytes to `out`. */
GD_CHECKED gd_status gd_manifest_encode(const gd_manifest *manifest, gd_bytes *out);

/* Any bytes are safe. GD_BAD_DATA (naming `path`) for what is no manifest, another version, values out of range, boxes that do
 * not cover their tensors exactly once; GD_NO_MEMORY. On a fault *out is empty. */
GD_CHECKED gd_status gd_manifest_decode(const char *path, const void *bytes, size_t count, gd_manifest *out);

/* The text of SHA256SUMS for a manifest and its encoded bytes, appended to `out`. */
GD_CHECKED gd_status gd_manifest_sums(const gd_manifest *manifest, const void *bytes, size_t count, gd_bytes *out);

/* FOLDER/MANIFEST.pb and FOLDER/SHA256SUMS, forced to the disk. */
GD_CHECKED gd_status gd_manifest_write(const gd_manifest *manifest, const char *folder);

/* Checks the raw bytes of the two files against each other and decodes. GD_BAD_DATA naming the folder. */
GD_CHECKED gd_status gd_manifest_open(const char *folder, const gd_bytes *bytes, const gd_bytes *sums, gd_manifest *out);

#endif
