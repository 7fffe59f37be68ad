/* internal.h - what the files of the configuration reader share: the YAML side calls back once a value. */
#ifndef GD_IO_CONFIG_INTERNAL_H
#define GD_IO_CONFIG_INTERNAL_H

#include "io/config/config.h"

/* One run file and what it includes goes into these. */
typedef struct gd_config_target {
  gd_spec *spec;
  gd_config_origins *origins; /* may be NULL */
  int depth, files;           /* of includes: now, and all so far */
} gd_config_target;

/* Reads the file and applies its keys (includes first). */
GD_CHECKED gd_status gd_config_yaml_file(const char *path, gd_config_target *target);
GD_CHECKED gd_status gd_config_yaml_text(const char *name, const char *text, size_t bytes, gd_config_target *target);
/* gd_config_set without lists and maps. */
GD_CHECKED gd_status gd_config_set_scalar(const gd_config_key *key, const char *value, const char *where, gd_spec *spec);

/* Adds one entry to data.path; weight_text NULL = 1. GD_USAGE. */
GD_CHECKED gd_status gd_config_add_source(const char *path, const char *weight_text, const char *where, gd_spec *spec);
void gd_config_clear_sources(gd_spec *spec);

/* Adds one pattern to a key of GD_KEY_PATTERNS or, with its factor, of GD_KEY_FACTORS. GD_USAGE. */
GD_CHECKED gd_status gd_config_add_pattern(const gd_config_key *key, const char *pattern, const char *factor, const char *where,
                                           gd_spec *spec);
void gd_config_clear_patterns(const gd_config_key *key, gd_spec *spec);
/* The value as YAML on one line; what stands for all tensors, or for none, is one word. */
void gd_config_patterns_text(const gd_config_key *key, const gd_spec *spec, char *out, size_t bytes);

/* Adds one number to a key of GD_KEY_WEIGHTS. GD_USAGE. */
GD_CHECKED gd_status gd_config_add_weight(const gd_config_key *key, const char *text, const char *where, gd_spec *spec);
void gd_config_clear_weights(const gd_config_key *key, gd_spec *spec);

/* A decimal number that is finite; the shortest text that reads back as the same. */
bool gd_config_parse_float(const char *text, float *out);
void gd_config_float_text(float value, char *out, size_t bytes);

/* Writes "unknown key" with the nearest valid one. Returns GD_USAGE. */
GD_CHECKED gd_status gd_config_unknown(const char *where, const char *name);

/* The choice that `found` was meant to be, or NULL. */
const char *gd_config_nearest_choice(const gd_key_choice *choices, const char *found);

/* The words of the YAML 1.2 core schema that mean no value: "", "~", "null". */
bool gd_config_is_null(const char *text);

void gd_config_set_origin(gd_config_origins *origins, const gd_config_key *key, const char *text);

#endif
