/* huggingface_export.h - a checkpoint written as a Hugging Face model folder: config.json, generation_config.json,
 * model.safetensors (or shards of it with model.safetensors.index.json), tokenizer.json and tokenizer_config.json, with the
 * template of what was trained on as its chat_template. Local. */
#ifndef GD_IO_CHECKPOINT_HUGGINGFACE_EXPORT_H
#define GD_IO_CHECKPOINT_HUGGINGFACE_EXPORT_H

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/safetensors.h"

typedef struct gd_huggingface_export_options {
  gd_safetensors_dtype dtype; /* of all tensors; GD_SAFETENSORS_OTHER: of each what it was imported from, else what the run
                                 computed in */
  int64_t shard_bytes;        /* most bytes of tensors a file, but one tensor at least */
} gd_huggingface_export_options;

typedef struct gd_huggingface_export_report {
  int32_t tensors, files;
  int64_t bytes;                 /* of tensors */
  bool tokenizer, chat_template; /* it is there */
} gd_huggingface_export_report;

/* The folder is new or empty, and is there whole or not at all. Takes the memory of the largest matrix (its parts, where theirs
 * is several of ours side by side). GD_USAGE: the folder is taken; GD_BAD_DATA naming what no architecture of theirs has, or
 * the value that the dtype cannot hold; GD_IO. */
GD_CHECKED gd_status gd_huggingface_export(const gd_checkpoint *checkpoint, const char *folder,
                                           const gd_huggingface_export_options *options, gd_huggingface_export_report *report);

#endif
