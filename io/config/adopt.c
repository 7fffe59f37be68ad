/* adopt.c - the model of weights to begin with, and what the run file says beside it. */
#include <string.h>

#include "io/config/internal.h"

/* A zero that stands for "derive it", where it was written, means what it would come to beside the other model. */
static void derive(gd_model_spec *model, const gd_model_spec *other) {
  if (!model->kv_heads) model->kv_heads = other->heads;
  if (!model->head_size) model->head_size = other->width / other->heads;
  if (!model->ffn) model->ffn = 4 * other->width;
  if (!model->vocabulary) model->vocabulary = other->vocabulary;
}

static gd_status contradicted(const char *key, const char *found, const char *origin, const char *expected, const char *from,
                              bool resumed) {
  return gd_fail_user(GD_USAGE, "%s: found %s (%s), expected %s as in %s%s; drop the key, or %s", key, found, origin, expected,
                      resumed ? "" : "model.init_from ", from,
                      resumed ? "choose another run.directory, or --resume none" : "begin with other weights");
}

gd_status gd_config_adopt_model(const gd_model_spec *brought, const char *from, bool resumed, gd_spec *spec,
                                gd_config_origins *origins) {
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  char found[GD_CONFIG_VALUE_BYTES], expected[GD_CONFIG_VALUE_BYTES];
  gd_spec given = *spec, wanted = *spec;
  wanted.model = *brought;
  derive(&wanted.model, &wanted.model);
  derive(&given.model, &wanted.model);
  for (int i = 0; i < n; i++) {
    /* What must be equal on resume is the shape that the weights have; dropout and init_std are the run's. */
    if (strncmp(keys[i].name, "model.", 6) != 0 || keys[i].change != GD_CHANGE_NEVER) continue;
    bool classes = strcmp(keys[i].name, "model.classes") == 0, said = strcmp(origins->text[i], "default") != 0;
    /* A classifier may be put upon the weights, or theirs may get rows: the labels of the data will say. */
    if (classes && (said || !brought->classes)) {
      wanted.model.classes = given.model.classes;
      continue;
    }
    if (!said) {
      gd_config_set_origin(origins, &keys[i], from);
      continue;
    }
    /* Rows that the weights get, or that those of a resumed run got: the data will say whether they may. */
    if (strcmp(keys[i].name, "model.vocabulary") == 0 && (resumed || given.model.vocabulary > brought->vocabulary)) {
      wanted.model.vocabulary = given.model.vocabulary;
      continue;
    }
    gd_config_value(&keys[i], &given, found, sizeof found);
    gd_config_value(&keys[i], &wanted, expected, sizeof expected);
    if (strcmp(found, expected) != 0) return contradicted(keys[i].name, found, origins->text[i], expected, from, resumed);
  }
  memcpy(wanted.model.init_from, spec->model.init_from, sizeof wanted.model.init_from);
  wanted.model.dropout = spec->model.dropout;
  wanted.model.init_std = spec->model.init_std;
  spec->model = wanted.model;
  return GD_OK;
}
