/* ckpt_huggingface.c - gptdist-ckpt export-hf and import-hf: a checkpoint as a Hugging Face folder, and back. */
#include "launch/ckpt_huggingface.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/base/files.h"
#include "io/checkpoint/huggingface_export.h"
#include "io/checkpoint/huggingface_import.h"

static gd_status parse_dtype(const char *text, gd_safetensors_dtype *out) {
  static const struct {
    const char *brief, *full;
    gd_safetensors_dtype dtype;
  } known[] = {{"fp32", "float32", GD_SAFETENSORS_F32},
               {"fp16", "float16", GD_SAFETENSORS_F16},
               {"bf16", "bfloat16", GD_SAFETENSORS_BF16}};
  *out = GD_SAFETENSORS_OTHER;
  if (!text) return GD_OK;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp(text, known[i].brief) == 0 || strcmp(text, known[i].full) == 0) *out = known[i].dtype;
  if (*out != GD_SAFETENSORS_OTHER) return GD_OK;
  return gd_fail_user(GD_USAGE, "--dtype: found \"%s\", expected fp32, fp16 or bf16", text);
}

/* "5GB": 5 * 10^9, as in transformers. */
static gd_status parse_size(const char *text, int64_t *out) {
  static const struct {
    const char *unit;
    double bytes;
  } units[] = {{"", 1},         {"B", 1},       {"KB", 1e3},   {"MB", 1e6},
               {"GB", 1e9},     {"TB", 1e12},   {"KiB", 1024}, {"MiB", 1024.0 * 1024},
               {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  char *end;
  double value = strtod(text, &end), bytes = 0;
  for (size_t i = 0; end > text && i < sizeof units / sizeof *units; i++)
    if (strcmp(end, units[i].unit) == 0) bytes = value * units[i].bytes;
  if (!(bytes >= 1 && bytes < 1e18) || !strchr("0123456789.", *text))
    return gd_fail_user(GD_USAGE, "--max-shard-size: found \"%s\", expected a size like 5GB or 200MB", text);
  *out = (int64_t)bytes;
  return GD_OK;
}

gd_status gd_ckpt_export(const gd_checkpoint *checkpoint, const char *folder, const char *dtype, const char *size, bool json) {
  gd_huggingface_export_options options;
  gd_huggingface_export_report report;
  gd_bytes text = {0};
  GD_TRY(parse_dtype(dtype, &options.dtype));
  GD_TRY(parse_size(size, &options.shard_bytes));
  GD_TRY(gd_huggingface_export(checkpoint, folder, &options, &report));
  if (!json) {
    printf("%s: %d tensors, %" PRId64 " bytes in %d file%s%s%s\n", folder, report.tensors, report.bytes, report.files,
           report.files == 1 ? "" : "s", report.tokenizer ? ", tokenizer.json" : "",
           report.chat_template ? " with its chat template" : "");
    return GD_OK;
  }
  gd_status status = gd_bytes_printf(&text, "{\"folder\": ");
  if (status == GD_OK) status = gd_json_quote(&text, folder, strlen(folder));
  if (status == GD_OK)
    printf("%s, \"tensors\": %d, \"files\": %d, \"bytes\": %" PRId64 ", \"tokenizer\": %s, \"chat_template\": %s}\n",
           text.bytes, report.tensors, report.files, report.bytes, report.tokenizer ? "true" : "false",
           report.chat_template ? "true" : "false");
  gd_bytes_free(&text);
  return status;
}

gd_status gd_ckpt_import(const char *folder, const char *out, bool with_tokenizer, const char *template_name, bool json) {
  gd_huggingface_import_report report;
  gd_bytes text = {0};
  GD_TRY(gd_path_named(folder, GD_PATH_FOLDER, "a Hugging Face model folder"));
  GD_TRY(gd_huggingface_import(folder, out, with_tokenizer, template_name, &report));
  if (!json) {
    printf("%s: a checkpoint of %d tensors, %" PRId64 " elements%s%s%s\n", out, report.tensors, report.elements,
           report.tokenizer ? ", with its tokenizer" : "", report.template_name[0] ? ", template " : "", report.template_name);
    return GD_OK;
  }
  gd_status status = gd_bytes_printf(&text, "{\"path\": ");
  if (status == GD_OK) status = gd_json_quote(&text, out, strlen(out));
  if (status == GD_OK)
    status = gd_bytes_printf(&text,
                             ", \"tensors\": %d, \"elements\": %" PRId64 ", \"tokenizer\": %s, \"template\": ", report.tensors,
                             report.elements, report.tokenizer ? "true" : "false");
  if (status == GD_OK)
    status = report.template_name[0] ? gd_json_quote(&text, report.template_name, strlen(report.template_name))
                                     : gd_bytes_printf(&text, "null");
  if (status == GD_OK) printf("%s}\n", text.bytes);
  gd_bytes_free(&text);
  return status;
}
