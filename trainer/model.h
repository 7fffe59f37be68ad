/* model.h - the transformer on one rank: the layers in order, forward, loss, backward, and generation's forward. Its memory:
 * arenas.h. */
#ifndef GD_TRAINER_MODEL_H
#define GD_TRAINER_MODEL_H

#include "trainer/arenas.h"
#include "trainer/labels.h"

/* Sequences of a batch from `first` on, as many as the micro-batch has, into the activation arena. labels: of the whole batch,
 * for a classifier, else NULL. Local; batch and labels may be reused after the compute stream has passed; the head's call reads
 * the batch's target weights too. */
GD_CHECKED gd_status gd_model_load_batch(gd_model *model, gd_micro *micro, const gd_batch *batch, const gd_labels *labels,
                                         int64_t first);

/* Layers [first_layer, first_layer + layers), the embedding before layer 0: residual[first_layer] .. residual[first_layer +
 * layers], and the final norm of residual[L]. Other micro-batches may come between two calls. Collective over tensor. */
GD_CHECKED gd_status gd_model_forward(gd_model *model, const gd_micro *micro, int32_t first_layer, int32_t layers);
/* Head (a classifier: final norm of its rows, too), loss: sums[2 s], sums[2 s + 1] = loss and weight of sequence s (device, 2 *
 * sequences floats). With gradient the head's backward is done too: logits are gone and DRESIDUAL holds the gradient of
 * residual[L], where a layer or the final norm learns. Collective over tensor. */
GD_CHECKED gd_status gd_model_loss(gd_model *model, const gd_micro *micro, float *sums, bool gradient);
/* The same of a classifier without gradient, with host_logits as gd_classifier_loss. */
GD_CHECKED gd_status gd_model_classify(gd_model *model, const gd_micro *micro, float *sums, float *host_logits);
/* From DRESIDUAL: `layers` layers from first_layer down, the embedding after layer 0 where a table of it learns. Of what is
 * frozen no gradient is made. Collective over tensor. */
GD_CHECKED gd_status gd_model_backward(gd_model *model, const gd_micro *micro, int32_t first_layer, int32_t layers);

/* Logits of a row: the true vocabulary, or the classes. */
int32_t gd_model_outputs(const gd_model *model);

/* Inference: runs tokens (host) of `count` parts, one behind the other, appends them to their slots, and gives logits [outputs]
 * (host, float32, the same on every tensor rank) of the rows that are wanted. At most batch.sequence rows, no slot twice.
 * What a row's text comes to does not depend on the other parts (docs/rounding.md). GD_USAGE where a slot has no room.
 * Collective over tensor. */
GD_CHECKED gd_status gd_model_infer(gd_model *model, const gd_infer_part *parts, int32_t count, const int32_t *tokens,
                                    float *logits);
/* The text of slot `from` to another one. Local. */
GD_CHECKED gd_status gd_model_copy_slot(gd_model *model, int32_t from, int32_t to);

#endif
