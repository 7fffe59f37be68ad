/* huggingface.h - a Hugging Face model folder (config.json with model.safetensors or model.safetensors.index.json) seen as our
 * logical tensors. GPT-2 (matrices stored [in, out], q, k and v side by side); Llama, Mistral and Qwen2 (matrices stored
 * [out, in], rotary halves as ours). All calls are local. */
#ifndef GD_IO_CHECKPOINT_HUGGINGFACE_H
#define GD_IO_CHECKPOINT_HUGGINGFACE_H

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/safetensors.h"
#include "shard/spec.h"

typedef struct gd_huggingface gd_huggingface;

/* GD_USAGE where the folder has no config.json; GD_BAD_DATA naming what is not supported (architecture, activation, rotary
 * kind and the like), a missing file, a damaged one, or the tensors that this model would not use. A stored head that is not
 * the token embedding is the head, also where config.json ties the two (as transformers does since its version 5). */
GD_CHECKED gd_status gd_huggingface_open(const char *folder, gd_huggingface **out);

/* Fills spec->model but init_from, dropout and init_std; leaves the rest alone. Says in the log when the head was untied. */
GD_CHECKED gd_status gd_huggingface_spec(const gd_huggingface *model, gd_spec *spec);

/* A classifier's labels; of other models all zeros. Lives as long as the model. */
const gd_data_task *gd_huggingface_task(const gd_huggingface *model);

/* Fills boxes (indices into `tensors`, kind weights) as gd_checkpoint_read does. GD_BAD_DATA naming the tensor that is missing
 * or has another shape. */
GD_CHECKED gd_status gd_huggingface_read(const gd_huggingface *model, const gd_tensor *tensors, gd_checkpoint_box *boxes,
                                         int32_t count);
/* The element type of the stored tensor that one of ours lies in; whether the token embedding is bfloat16. GD_BAD_DATA as read.
 */
GD_CHECKED gd_status gd_huggingface_dtype(const gd_huggingface *model, const gd_tensor *ours, gd_safetensors_dtype *out);
bool gd_huggingface_is_bfloat16(const gd_huggingface *model);
void gd_huggingface_close(gd_huggingface *model);

#endif
