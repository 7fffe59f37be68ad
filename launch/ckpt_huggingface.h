/* ckpt_huggingface.h - gptdist-ckpt export-hf and import-hf. Local. */
#ifndef GD_LAUNCH_CKPT_HUGGINGFACE_H
#define GD_LAUNCH_CKPT_HUGGINGFACE_H

#include <stdbool.h>

#include "io/checkpoint/checkpoint.h"

/* dtype: "fp32", "fp16", "bf16" (or in full), NULL: as the checkpoint's run computed; size: "5GB", "200MB". Prints what was
 * written. GD_USAGE for another text; else as gd_huggingface_export. */
GD_CHECKED gd_status gd_ckpt_export(const gd_checkpoint *checkpoint, const char *folder, const char *dtype, const char *size,
                                    bool json);

/* A model folder as a checkpoint; template_name: --template, or NULL. Prints what was written. As gd_huggingface_import. */
GD_CHECKED gd_status gd_ckpt_import(const char *folder, const char *out, bool with_tokenizer, const char *template_name,
                                    bool json);

#endif
