/* huggingface.c - a Hugging Face folder: config.json and model.safetensors, or config.json, model.safetensors.index.json and
 * a.safetensors. A model that is accepted and small is laid out, and all its tensors are read. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/base/files.h"
#include "io/checkpoint/huggingface.h"
#include "io/config/config.h"
#include "shard/layout.h"
#include "tests/fuzz/safetensors.h"

enum { MOST_PARAMETERS = 1 << 16, MOST_LAYERS = 64 };

static void read_all(const gd_huggingface *model, gd_spec *spec) {
  gd_mesh mesh;
  gd_layout layout;
  if (spec->model.layers > MOST_LAYERS || spec->model.width > MOST_PARAMETERS || spec->model.ffn > MOST_PARAMETERS ||
      gd_spec_parameters(spec) > MOST_PARAMETERS)
    return;
  fuzz_must(gd_mesh_init(&mesh, 1, 1, 1, 1));
  fuzz_must(gd_layout_create(spec, &mesh, 0, &layout));
  for (int32_t t = 0; t < layout.tensor_count; t++) {
    gd_checkpoint_box box = {t, GD_KIND_WEIGHTS, {0, layout.tensors[t].rows, 0, layout.tensors[t].cols}, NULL};
    box.data = malloc((size_t)gd_box_elements(box.box) * sizeof *box.data);
    if (!box.data) abort();
    (void)fuzz_accepted(gd_huggingface_read(model, layout.tensors, &box, 1), GD_BAD_DATA);
    free(box.data);
  }
  gd_layout_free(&layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static gd_spec spec;
  fuzz_part parts[3];
  char path[GD_PATH_BYTES];
  gd_huggingface *model = NULL;
  int count = fuzz_parts(data, size, parts, 3);
  static const char *const names[2][3] = {{"config.json", "model.safetensors", NULL},
                                          {"config.json", "model.safetensors.index.json", "a.safetensors"}};
  for (int i = 0; i < 3; i++) { /* those of the input before must go */
    for (int k = 0; k < 2; k++) {
      if (!names[k][i]) continue;
      fuzz_must(gd_path_join(path, sizeof path, fuzz_folder(), names[k][i]));
      (void)unlink(path);
    }
  }
  for (int i = 0; i < (count == 3 ? 3 : 2); i++) {
    bool model_file = i == count - 1 && i > 0;
    if (model_file)
      fuzz_write_safetensors(names[count == 3][i], parts[i], path);
    else
      fuzz_write(names[count == 3][i], parts[i].bytes, parts[i].count, path);
  }
  if (!fuzz_accepted(gd_huggingface_open(fuzz_folder(), &model), GD_BAD_DATA)) return 0;
  fuzz_must(gd_config_load(NULL, NULL, 0, &spec, NULL));
  fuzz_must(gd_huggingface_spec(model, &spec));
  spec.batch.global = spec.batch.micro = 1;
  spec.run.steps = 1;
  if (fuzz_accepted(gd_spec_resolve(&spec, 1), GD_USAGE)) read_all(model, &spec);
  gd_huggingface_close(model);
  return 0;
}
