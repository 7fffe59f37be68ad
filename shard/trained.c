/* trained.c - matches patterns with names of tensors. */
#include "shard/trained.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool matches(const char *pattern, const char *tensor) {
  return fnmatch(pattern, tensor, 0) == 0;
}

/* The K of "top:K"; -1: another pattern; 0: no number of layers. */
static int32_t top_of(const char *pattern) {
  if (strncmp(pattern, "top:", 4) != 0) return -1;
  char *end;
  long k = strtol(pattern + 4, &end, 10);
  return pattern[4] && strspn(pattern + 4, "0123456789") == strlen(pattern + 4) && k <= INT32_MAX ? (int32_t)k : 0;
}

/* A word of finetune.train that is no name. */
static bool is_word(const char *pattern) {
  return top_of(pattern) >= 0 || strcmp(pattern, "head") == 0 || strcmp(pattern, "all") == 0;
}

static bool of_the_head(const gd_spec *spec, const char *tensor) {
  const char *head = spec->model.classes ? "classifier.*" : spec->model.tied_head ? "token_embedding.*" : "head.*";
  return matches("final_norm.*", tensor) || matches(head, tensor);
}

static bool trains(const gd_spec *spec, const char *pattern, const char *tensor) {
  int32_t top = top_of(pattern);
  if (strcmp(pattern, "head") == 0 || top == 0) return of_the_head(spec, tensor);
  if (top < 0) return matches(pattern, tensor);
  bool layer = strncmp(tensor, "layers.", 7) == 0;
  return layer ? strtol(tensor + 7, 0, 10) >= spec->model.layers - top : of_the_head(spec, tensor);
}

bool gd_trained(const gd_spec *spec, const char *tensor) {
  const gd_patterns *train = &spec->finetune.train;
  for (int32_t i = 0; i < train->count; i++)
    if (trains(spec, train->text[i], tensor)) return true;
  return train->count == 0;
}

float gd_trained_lr_scale(const gd_spec *spec, const char *tensor) {
  const gd_patterns *scale = &spec->optimizer.lr_scale;
  for (int32_t i = scale->count - 1; i >= 0; i--)
    if (matches(scale->text[i], tensor)) return scale->value[i];
  return 1;
}

/* Names of tensors, those of the layers once: "layers.N.norm1.weight". */
static void list_names(const gd_spec *spec, const gd_tensor *tensors, int32_t count, char *out, size_t bytes) {
  size_t used = 0;
  for (int32_t i = 0; i < count && used < bytes; i++) {
    const char *name = tensors[i].name;
    bool layer = strncmp(name, "layers.", 7) == 0, first = strncmp(name, "layers.0.", 9) == 0;
    if (layer && !first) continue;
    used += (size_t)snprintf(out + used, bytes - used, "%s%s%s", used ? ", " : "", layer ? "layers.N." : name,
                             layer ? name + 9 : "");
  }
  if (used < bytes) snprintf(out + used, bytes - used, " (N: 0 to %d)", spec->model.layers - 1);
}

static gd_status matches_nothing(const gd_spec *spec, const char *key, const char *pattern, const gd_tensor *tensors,
                                 int32_t count) {
  char names[1536] = "";
  list_names(spec, tensors, count, names, sizeof names);
  return gd_fail_user(GD_USAGE, "%s: \"%s\" matches no tensor of this model, which has %s", key, pattern, names);
}

gd_status gd_trained_check(const gd_spec *spec, const gd_tensor *tensors, int32_t count) {
  const gd_patterns *train = &spec->finetune.train, *scale = &spec->optimizer.lr_scale;
  for (int32_t i = 0; i < train->count; i++) {
    int32_t top = top_of(train->text[i]);
    bool found = false;
    if (top == 0 || top > spec->model.layers)
      return gd_fail_user(GD_USAGE, "finetune.train: found \"%s\", expected top:1 to top:%d, as many layers as there are",
                          train->text[i], spec->model.layers);
    for (int32_t t = 0; t < count && !found; t++) found = trains(spec, train->text[i], tensors[t].name);
    if (!found) return matches_nothing(spec, "finetune.train", train->text[i], tensors, count);
  }
  for (int32_t i = 0; i < scale->count; i++) {
    const gd_tensor *frozen = 0;
    bool found = false;
    for (int32_t t = 0; t < count && !found; t++) {
      if (!matches(scale->text[i], tensors[t].name)) continue;
      found = !tensors[t].frozen;
      frozen = &tensors[t];
    }
    if (!found && is_word(scale->text[i]))
      return gd_fail_user(
          GD_USAGE,
          "optimizer.lr_scale: found \"%s\", a word of finetune.train alone, expected the name of tensors, with * "
          "in it for several: \"final_norm.*\"; \"*\" is all",
          scale->text[i]);
    if (!found && frozen)
      return gd_fail_user(
          GD_USAGE,
          "optimizer.lr_scale: \"%s\" would change nothing: all that it matches is frozen by finetune.train, as %s "
          "is; take it out, or let what it names learn",
          scale->text[i], frozen->name);
    if (!found) return matches_nothing(spec, "optimizer.lr_scale", scale->text[i], tensors, count);
  }
  return GD_OK;
}
