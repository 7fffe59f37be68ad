/* huggingface_config.h - config.json of a Hugging Face model folder as numbers of ours, and back. Local. */
#ifndef GD_IO_CHECKPOINT_HUGGINGFACE_CONFIG_H
#define GD_IO_CHECKPOINT_HUGGINGFACE_CONFIG_H

#include "io/base/json.h"
#include "io/data/task.h"
#include "shard/spec.h"

typedef enum gd_family { GD_FAMILY_GPT2, GD_FAMILY_LLAMA, GD_FAMILY_MISTRAL, GD_FAMILY_QWEN2 } gd_family;

typedef struct gd_huggingface_config {
  gd_family family;
  bool llama; /* its tensors have Llama's names, else GPT-2's */
  gd_model_spec model;
  gd_data_task task; /* a classifier's labels; else all zeros */
} gd_huggingface_config;

/* GD_USAGE where FOLDER/config.json is missing; GD_BAD_DATA naming file, key, what was found and what is read. */
GD_CHECKED gd_status gd_huggingface_config_read(const char *folder, gd_huggingface_config *out);
void gd_huggingface_config_free(gd_huggingface_config *config);

/* The architecture that a model of ours has there, `task` being what its data are for, copied. GD_BAD_DATA naming what of its
 * shape none has. gd_huggingface_config_free in any case. */
GD_CHECKED gd_status gd_huggingface_config_from(const gd_spec *spec, const gd_data_task *task, gd_huggingface_config *out);

/* The id that begins a text, -1: none; and those that end one or a turn, the end of a text first. */
enum { GD_HUGGINGFACE_ENDS = 65 };
typedef struct gd_huggingface_marks {
  int32_t begin, ends[GD_HUGGINGFACE_ENDS], end_count;
} gd_huggingface_marks;

/* The texts of config.json (dtype: "float32", ...) and generation_config.json, appended to `out`. */
GD_CHECKED gd_status gd_huggingface_config_write(const gd_spec *spec, const gd_huggingface_config *config,
                                                 const gd_huggingface_marks *marks, const char *dtype, gd_bytes *out);
GD_CHECKED gd_status gd_huggingface_generation_write(const gd_huggingface_marks *marks, gd_bytes *out);

#endif
