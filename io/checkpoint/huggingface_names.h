/* huggingface_names.h - between our names of tensors and those of Hugging Face's GPT-2 and Llama. All calls are local. */
#ifndef GD_IO_CHECKPOINT_HUGGINGFACE_NAMES_H
#define GD_IO_CHECKPOINT_HUGGINGFACE_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "io/checkpoint/huggingface_config.h"

enum { GD_HUGGINGFACE_NAME_BYTES = 160 };

/* Where one of our tensors lies in theirs. */
typedef struct gd_huggingface_rule {
  const char *ours, *theirs; /* without "layers.N." and "h.N." */
  bool transposed;           /* stored [in, out] */
  int32_t part, parts;       /* part of `parts` equal ones along the output */
} gd_huggingface_rule;

/* The tensors of a layer, or those outside of all layers; ends with `ours` NULL. Parts of one of theirs are neighbours. */
const gd_huggingface_rule *gd_huggingface_rules(const gd_huggingface_config *config, bool inside);

/* NULL: a tensor that such a model has not. prefix: before their names, "transformer.", "model." or "". */
const gd_huggingface_rule *gd_huggingface_translate(const gd_huggingface_config *config, const char *prefix, const char *ours,
                                                    char theirs[GD_HUGGINGFACE_NAME_BYTES]);

/* One of their tensors is read for this model, or known to say nothing that config.json does not (masks, rotary tables). */
bool gd_huggingface_uses(const gd_huggingface_config *config, const char *prefix, const char *theirs);

#endif
