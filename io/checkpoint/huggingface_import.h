/* huggingface_import.h - a Hugging Face model folder written as a checkpoint of ours, at step 0: MANIFEST.pb, one rank's file
 * of weights, tokenizer/. Local. */
#ifndef GD_IO_CHECKPOINT_HUGGINGFACE_IMPORT_H
#define GD_IO_CHECKPOINT_HUGGINGFACE_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/status.h"
#include "shard/tensor.h"

typedef struct gd_huggingface_import_report {
  int32_t tensors;
  int64_t elements;
  bool tokenizer;                    /* it is there */
  char template_name[GD_NAME_BYTES]; /* of the template that is kept; "": none */
} gd_huggingface_import_report;

/* `out` is new or empty, and is there whole or not at all. Takes the memory of some chunks of a tensor. with_tokenizer: the
 * folder's tokenizer comes, too, where there is one. template_name: one of ours or a file, for the manifest; NULL: that of the
 * folder's chat_template, where it has one; "none": none. GD_USAGE: `out` is taken, `folder` has no config.json, the
 * chat_template is none of ours, or the tokenizer lacks a token of the template; GD_BAD_DATA as gd_huggingface_open,
 * gd_huggingface_read and gd_tokenizer_open; GD_IO. */
GD_CHECKED gd_status gd_huggingface_import(const char *folder, const char *out, bool with_tokenizer, const char *template_name,
                                           gd_huggingface_import_report *report);

#endif
