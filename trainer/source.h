/* source.h - where weights come from: one of our checkpoints (or a run folder), or a Hugging Face model folder. */
#ifndef GD_TRAINER_SOURCE_H
#define GD_TRAINER_SOURCE_H

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/huggingface.h"
#include "trainer/weights.h"

typedef struct gd_weight_source {
  gd_checkpoint *checkpoint; /* one of the two */
  gd_huggingface *huggingface;
  char path[GD_PATH_BYTES];
  char tokenizer[GD_PATH_BYTES]; /* "" = none with it */
} gd_weight_source;

/* session may be NULL in a one-rank program. Collective over the job. GD_BAD_DATA, GD_USAGE. */
GD_CHECKED gd_status gd_weight_source_open(gd_session *session, const char *path, gd_weight_source *out);
/* For the model alone: a checkpoint's files are not hashed, so nothing may be read. Local. GD_BAD_DATA, GD_USAGE. */
GD_CHECKED gd_status gd_weight_source_peek(const char *path, gd_weight_source *out);
/* The model section of `spec` becomes the source's (init_from and dropout are left alone). */
GD_CHECKED gd_status gd_weight_source_model(const gd_weight_source *source, gd_spec *spec);
/* What its data was for, the labels of a classifier among it; lives as long as the source. */
const gd_data_task *gd_weight_source_task(const gd_weight_source *source);
/* Path and digest, for the manifests of what begins with it. Local. GD_IO, GD_NO_MEMORY. */
GD_CHECKED gd_status gd_weight_source_base(const gd_weight_source *source, gd_base *out);
/* A gd_weights_reader; context: the gd_weight_source. */
GD_CHECKED gd_status gd_weight_source_read(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                           float *const *data);
void gd_weight_source_close(gd_weight_source *source);

#endif
