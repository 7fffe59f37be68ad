/* config.h - the run file and the command line to a gd_spec, through one static key table (io/config/keys.c).
 *
 * A run file is YAML: sections (run, model, data, ...) of scalars, the scalar `numerics`, and `include: FILE` (or a list of
 * files, relative to the file that names them; the including file wins). The same keys serve --set section.key=value, the
 * widely known spellings (--lr), --help-config and the suggestions of error messages. A user's mistake comes back as
 * GD_USAGE with a text like
 *   run.yaml:12: optimizer.lrr: unknown key; did you mean "optimizer.lr"?
 *   --set batch.global: found "lots", expected an integer from 1 to 1048576
 * Everything here is local: no rank but the one that reads calls it. */
#ifndef GD_IO_CONFIG_CONFIG_H
#define GD_IO_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdio.h>

#include "shard/spec.h"
#include "shard/tensor.h"

enum { GD_CONFIG_MAX_KEYS = 96, GD_CONFIG_ORIGIN_BYTES = 256, GD_CONFIG_VALUE_BYTES = 2304, GD_CONFIG_TEXT_BYTES = 65536 };

typedef enum gd_key_type {
  GD_KEY_BOOL,
  GD_KEY_INT32,
  GD_KEY_INT64,
  GD_KEY_UINT64,
  GD_KEY_FLOAT,
  GD_KEY_CHOICE,   /* an enum */
  GD_KEY_STRING,   /* char[GD_PATH_BYTES], UTF-8 */
  GD_KEY_SOURCES,  /* data.path: one string, or a list of strings and of {path, weight}; fills sources, path, weight */
  GD_KEY_PATTERNS, /* gd_patterns: one pattern, or a list; "all" is none */
  GD_KEY_FACTORS,  /* gd_patterns: {pattern: number, ...} */
  GD_KEY_WEIGHTS,  /* gd_class_weights: none, balanced, or a list of numbers above 0 */
} gd_key_type;

/* What a resumed run may do with a key whose value is not the checkpoint's. */
typedef enum gd_key_change {
  GD_CHANGE_FREE = 1, /* where and how it runs: nothing is said */
  GD_CHANGE_TOLD,     /* what a person may change: told in one line, old and new */
  GD_CHANGE_ASKED,    /* other numbers or data: refused unless asked for by name */
  GD_CHANGE_BLOCKS,   /* ASKED where both runs are numerics: invariant, else FREE: canonical blocks follow the layout there */
  GD_CHANGE_TENSORS,  /* the words may change, the tensors that they mean may not: gd_config_resume_trained */
  GD_CHANGE_NEVER     /* weights and moments would mean something else: refused */
} gd_key_change;

/* Ends with a NULL name. The first name of a value is the one that is written; later ones are accepted too. */
typedef struct gd_key_choice {
  const char *name;
  int value;
} gd_key_choice;

typedef struct gd_config_key {
  const char *name; /* "section.key", or "numerics" */
  gd_key_type type;
  gd_key_change change;    /* on resume */
  size_t offset;           /* in gd_spec */
  const char *preset;      /* the default, as text */
  double minimum, maximum; /* of numbers; bounds belong to the range where *_open is false */
  bool minimum_open, maximum_open;
  const char *unit; /* "steps", "s", ... or "" */
  const gd_key_choice *choices;
  const char *help; /* one line */
} gd_config_key;

/* Another spelling on the command line. value: NULL = the option takes one; else the option is a flag that sets it. */
typedef struct gd_config_alias {
  const char *option; /* "--lr" */
  const char *key;    /* "optimizer.lr" */
  const char *value;
} gd_config_alias;

/* One value from the command line. */
typedef struct gd_config_override {
  const char *option; /* as the user wrote it, for messages: "--set" or "--lr" */
  const char *key;    /* "optimizer.lr" */
  const char *value;  /* text; what may be a list or a map also takes it as YAML: [{path: a, weight: 2}, b] */
} gd_config_override;

/* Where each key's value came from: "FILE:LINE", "--set", "--lr" or "default". Index = index of the key. */
typedef struct gd_config_origins {
  char text[GD_CONFIG_MAX_KEYS][GD_CONFIG_ORIGIN_BYTES];
} gd_config_origins;

/* The key table, in the order of gd_spec. */
int gd_config_keys(const gd_config_key **out);
/* NULL when there is no such key. */
const gd_config_key *gd_config_find(const char *name);
int gd_config_aliases(const gd_config_alias **out);
/* "--lr" -> its alias; NULL when there is none. */
const gd_config_alias *gd_config_find_alias(const char *option);
/* The key, section or option nearest to a misspelt one, or NULL when nothing is near. Static text. */
const char *gd_config_nearest_key(const char *name);
/* Edits (insert, delete, replace, swap of neighbours) from one word to another, and whether so few make them near. */
int gd_config_distance(const char *a, const char *b);
bool gd_config_is_near(const char *found, int distance);

/* Fills *out: defaults, then the file at `path` (NULL: none), then the overrides in order (a later one wins). *out is zeroed
 * first, padding and string tails too, so it may be compared and broadcast as bytes. origins may be NULL. Values that mean
 * "derive it" stay 0 until gd_spec_resolve. No key is required here. GD_USAGE: any mistake of the user; GD_IO: the file cannot
 * be read; GD_NO_MEMORY. */
GD_CHECKED gd_status gd_config_load(const char *path, const gd_config_override *overrides, int count, gd_spec *out,
                                    gd_config_origins *origins);

/* The same from text already in memory; `name` stands for the file in messages, `include` is relative to it. */
GD_CHECKED gd_status gd_config_load_text(const char *name, const char *text, size_t bytes, const gd_config_override *overrides,
                                         int count, gd_spec *out, gd_config_origins *origins);

/* All defaults, nothing else. */
void gd_config_defaults(gd_spec *out);

/* Parses and stores one value; what may be a list or a map also takes it as YAML in one line of text. `where` starts the
 * message ("run.yaml:12: optimizer.lr"). GD_USAGE. */
GD_CHECKED gd_status gd_config_set(const gd_config_key *key, const char *value, const char *where, gd_spec *spec);

/* The model's shape comes from weights to begin with (`brought`, of the folder `from`), and its keys' origins say so; dropout
 * and init_std stay. resumed: they are a checkpoint of the run itself, whose vocabulary and classes the data made, of which the
 * run file may say what they were before. GD_USAGE naming key, origin, found and expected where the run file or the command
 * line says otherwise. */
GD_CHECKED gd_status gd_config_adopt_model(const gd_model_spec *brought, const char *from, bool resumed, gd_spec *spec,
                                           gd_config_origins *origins);

/* The value as it stands in a resolved file, unquoted and on one line. Returns out. */
const char *gd_config_value(const gd_config_key *key, const gd_spec *spec, char *out, size_t bytes);

/* The whole spec as a YAML file with every key; loading it again gives the same spec, byte for byte. Returns the length, as
 * snprintf does (out of GD_CONFIG_TEXT_BYTES always suffices). */
size_t gd_config_write(const gd_spec *spec, char *out, size_t bytes);

/* Calls `visit` with the key and both values as text for each key in which the two specs differ; returns their number. */
typedef void gd_config_difference(void *context, const gd_config_key *key, const char *value_a, const char *value_b);
int gd_config_compare(const gd_spec *a, const gd_spec *b, gd_config_difference *visit, void *context);

/* Whether a run of spec `now` may go on from a checkpoint of spec `then`. `allowed`: key names with commas between them, or
 * NULL: what may change though it needs asking. Tells each change that may be (rank 0 logs it). GD_USAGE naming key, found and
 * expected for the first that may not. `checkpoint` is its path, for the text. */
GD_CHECKED gd_status gd_config_resume(const gd_spec *then, const gd_spec *now, const char *allowed, const char *checkpoint);
/* The part of it that goes before all other keys: how many outputs two labels have, which model.classes follows from. */
GD_CHECKED gd_status gd_config_resume_loss(const gd_spec *then, const gd_spec *now, const char *checkpoint);
/* Whether the same tensors learn (both sorted by name): what the checkpoint's are counts, not how finetune.train spells them,
 * and other words for them are told. GD_USAGE naming the first that differs; names that one side lacks are not looked at. */
GD_CHECKED gd_status gd_config_resume_trained(const gd_spec *then, const gd_tensor *saved, int32_t saved_count,
                                              const gd_spec *now, const gd_tensor *tensors, int32_t count,
                                              const char *checkpoint);
/* Whether every name in `allowed` is a key that needs asking. GD_USAGE. */
GD_CHECKED gd_status gd_config_check_allowed(const char *allowed);

/* "FILE:LINE", "--set", ..., "default" for a key; "unknown" when the name is no key. */
const char *gd_config_origin(const gd_config_origins *origins, const char *name);

/* After a check of several keys together (gd_spec_resolve): adds a line to the thread's text that says where each key it
 * names came from. Returns `status` unchanged; does nothing unless it is GD_USAGE. */
GD_CHECKED gd_status gd_config_explain(gd_status status, const gd_config_origins *origins);

/* The text of --help-config, a line at a time without newlines: each key with type, range, unit, default and aliases. */
typedef void gd_config_line(void *context, const char *line);
void gd_config_print_help(gd_config_line *line, void *context);

#endif
