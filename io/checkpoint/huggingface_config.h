/* huggingface_config.h - config.json of a Hugging Face model folder as numbers of ours. Local. */
#ifndef GD_IO_CHECKPOINT_HUGGINGFACE_CONFIG_H
#define GD_IO_CHECKPOINT_HUGGINGFACE_CONFIG_H

#include "io/base/json.h"
#include "shard/spec.h"

typedef struct gd_huggingface_config {
  bool llama; /* else gpt2 */
  gd_model_spec model;
} gd_huggingface_config;

/* GD_USAGE where FOLDER/config.json is missing; GD_BAD_DATA naming file, key, what was found and what is read. */
GD_CHECKED gd_status gd_huggingface_config_read(const char *folder, gd_huggingface_config *out);

#endif
