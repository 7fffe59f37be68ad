/* weights.c - filling the parameter arena: initial values, or boxes read from a checkpoint or a model folder. */
#include <stdlib.h>
#include <string.h>

#include "shard/base/progress.h"

#include "trainer/weights.h"

/* FNV-1a: the rng's stream of a tensor comes from its name, so it does not depend on what else the model has. */
static uint32_t name_hash(const char *name) {
  uint32_t hash = 2166136261u;
  for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
  return hash;
}

gd_status gd_model_random_weights(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                  float *const *data) {
  const gd_model *model = context;
  for (int32_t i = 0; i < count; i++) {
    const gd_tensor *tensor = &tensors[boxes[i].tensor];
    const gd_parameter *p = &model->layout.parameters[boxes[i].parameter];
    gd_rng rng = gd_rng_make(model->seed, GD_RNG_WEIGHTS, 0, 0, name_hash(tensor->name));
    gd_box box = boxes[i].box;
#pragma omp parallel for schedule(static) num_threads(model->kernels.threads)
    for (int64_t r = 0; r < box.rows; r++)
      for (int64_t c = 0; c < box.cols; c++) {
        uint64_t element = (uint64_t)((box.row + r) * tensor->cols + box.col + c);
        data[i][r * box.cols + c] = p->init_std > 0 ? p->init_std * gd_rng_normal(&rng, element) : p->init_value;
      }
    gd_progress();
  }
  return GD_OK;
}

/* One bucket at a time, so that the host copy stays small. */
static gd_status upload(gd_model *model, int32_t bucket, const float *host, void *staging) {
  gd_device *device = model->device;
  gd_dtype dtype = model->layout.shape.dtype;
  size_t elements = (size_t)model->layout.buckets[bucket].elements, bytes = elements * gd_dtype_bytes(dtype);
  const void *from = host;
  if (dtype == GD_BFLOAT16) {
    gd_bfloat16 *rounded = staging;
    for (size_t i = 0; i < elements; i++) rounded[i] = gd_bfloat16_from_float(host[i]);
    from = rounded;
  }
  GD_TRY(device->ops->copy(device->compute, gd_model_bucket(model, bucket), from, bytes, GD_COPY_HOST_TO_DEVICE));
  return device->ops->stream_sync(device->compute);
}

static gd_status read_bucket(gd_model *model, int32_t bucket, const gd_owned_box *boxes, int32_t count,
                             gd_weights_reader *reader, void *context, float *host, float **data, void *staging) {
  int32_t first = 0, end;
  while (first < count && boxes[first].bucket < bucket) first++;
  for (end = first; end < count && boxes[end].bucket == bucket; end++) data[end - first] = host + boxes[end].offset;
  memset(host, 0, (size_t)model->layout.buckets[bucket].elements * sizeof *host);
  GD_TRY(reader(context, model->layout.tensors, boxes + first, end - first, data));
  gd_progress();
  return upload(model, bucket, host, staging);
}

gd_status gd_model_read_weights(gd_model *model, gd_weights_reader *reader, void *context) {
  const gd_layout *layout = &model->layout;
  gd_owned_box *boxes = 0;
  int32_t count;
  int64_t largest = 0;
  GD_TRY(gd_layout_owned(layout, GD_OWN_ALL, &boxes, &count));
  for (int32_t i = 0; i < layout->bucket_count; i++)
    if (layout->buckets[i].elements > largest) largest = layout->buckets[i].elements;
  float *host = malloc((size_t)largest * sizeof *host), **data = malloc((size_t)count * sizeof *data);
  void *staging = malloc((size_t)largest * sizeof(gd_bfloat16));
  gd_status status = GD_OK;
  if (!host || !data || !staging) status = gd_fail(GD_NO_MEMORY, "no host memory for %lld weights", (long long)largest);
  for (int32_t i = 0; i < layout->bucket_count && status == GD_OK; i++)
    status = read_bucket(model, i, boxes, count, reader, context, host, data, staging);
  free(host), free(data), free(staging), free(boxes);
  return status;
}
