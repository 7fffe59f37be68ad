/* value.c - one value: its text to a field of the spec and back. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config.h"
#include "io/config/internal.h"
#include "io/base/utf8.h"

static void *field(gd_spec *spec, const gd_config_key *key) {
  return (char *)spec + key->offset;
}
static const void *field_const(const gd_spec *spec, const gd_config_key *key) {
  return (const char *)spec + key->offset;
}

static void expectation(const gd_config_key *key, char *out, size_t bytes) {
  switch (key->type) {
    case GD_KEY_BOOL: snprintf(out, bytes, "true or false"); return;
    case GD_KEY_INT32:
    case GD_KEY_INT64: snprintf(out, bytes, "an integer from %.0f to %.0f", key->minimum, key->maximum); break;
    case GD_KEY_UINT64: snprintf(out, bytes, "an integer from 0 to %" PRIu64, UINT64_MAX); break;
    case GD_KEY_FLOAT:
      if (key->minimum_open) {
        snprintf(out, bytes, "a number above %g, at most %g", key->minimum, key->maximum);
      } else if (key->maximum_open) {
        snprintf(out, bytes, "a number from %g to below %g", key->minimum, key->maximum);
      } else {
        snprintf(out, bytes, "a number from %g to %g", key->minimum, key->maximum);
      }
      break;
    case GD_KEY_STRING: snprintf(out, bytes, "text of at most %d bytes", GD_PATH_BYTES - 1); return;
    case GD_KEY_SOURCES: snprintf(out, bytes, "a folder, or a list of {path, weight}"); return;
    case GD_KEY_PATTERNS: snprintf(out, bytes, "all, head, top:K, or a list of tensor names with * in them"); return;
    case GD_KEY_FACTORS: snprintf(out, bytes, "a map of tensor names to factors: {\"final_norm.*\": 5}"); return;
    case GD_KEY_WEIGHTS: snprintf(out, bytes, "none, balanced, or a list of a number for each label"); return;
    case GD_KEY_CHOICE: {
      size_t used = (size_t)snprintf(out, bytes, "one of");
      for (const gd_key_choice *c = key->choices; c->name && used < bytes; c++) {
        used += (size_t)snprintf(out + used, bytes - used, "%s %s", c == key->choices ? "" : ",", c->name);
      }
      return;
    }
  }
  size_t used = strlen(out);
  if (*key->unit && used < bytes) snprintf(out + used, bytes - used, " (%s)", key->unit);
}

static gd_status refuse(const gd_config_key *key, const char *value, const char *where, const char *meant) {
  char expected[256];
  expectation(key, expected, sizeof expected);
  char found[128];
  if (gd_config_is_null(value)) {
    snprintf(found, sizeof found, "no value");
  } else {
    snprintf(found, sizeof found, "\"%.100s%s\"", value, strlen(value) > 100 ? "..." : "");
  }
  if (meant) return gd_fail_user(GD_USAGE, "%s: found %s, expected %s; did you mean \"%s\"?", where, found, expected, meant);
  return gd_fail_user(GD_USAGE, "%s: found %s, expected %s", where, found, expected);
}

bool gd_config_is_null(const char *text) {
  return !*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* "1e3", "2.5e6": a number of YAML that is whole. */
static bool parse_whole(const char *text, int64_t *out) {
  if (!strpbrk(text, ".eE") || strspn(text, "0123456789-.eE") != strlen(text)) return false;
  char *end;
  double value = strtod(text, &end);
  if (*end || end == text || !(fabs(value) <= 0x1p53) || value != floor(value)) return false;
  *out = (int64_t)value;
  return true;
}

/* "90", "90s", "30m", "2h", "1d" for keys in seconds; an integer else. */
static bool parse_int(const char *text, bool seconds, int64_t *out) {
  if (!*text || strchr(" \t\n+", *text)) return false;
  if (parse_whole(text, out)) return true;
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (errno || end == text) return false;
  int64_t unit = 1;
  if (seconds && *end && !end[1]) {
    unit = *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 0;
    if (!unit) return false;
    end++;
  }
  int64_t scaled;
  if (*end || __builtin_mul_overflow((int64_t)value, unit, &scaled)) return false;
  *out = scaled;
  return true;
}

static bool in_range(const gd_config_key *key, double value) {
  /* The bound as a float, so that a default of 0.1 is not "below 0.1". */
  double low = key->type == GD_KEY_FLOAT ? (double)(float)key->minimum : key->minimum;
  double high = key->type == GD_KEY_FLOAT ? (double)(float)key->maximum : key->maximum;
  return (key->minimum_open ? value > low : value >= low) && (key->maximum_open ? value < high : value <= high);
}

static bool is_utf8(const char *text) {
  bool valid = true;
  size_t count = strlen(text);
  return !count || (gd_utf8_run(text, count, &valid) == count && valid);
}

/* Fills all of field[GD_PATH_BYTES]: the tail stays zero, so that equal specs are equal bytes. */
static gd_status set_string(const char *value, const char *where, char *out) {
  size_t length = strlen(value);
  if (length >= GD_PATH_BYTES) {
    return gd_fail_user(GD_USAGE, "%s: found text of %zu bytes, expected at most %d", where, length, GD_PATH_BYTES - 1);
  }
  if (!is_utf8(value)) return gd_fail_user(GD_USAGE, "%s: found bytes that are not UTF-8, expected UTF-8 text", where);
  for (const char *p = value; *p; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f) {
      return gd_fail_user(GD_USAGE, "%s: found a control character (0x%02x), expected plain text", where, (unsigned char)*p);
    }
  }
  memset(out, 0, GD_PATH_BYTES);
  memcpy(out, value, length);
  return GD_OK;
}

void gd_config_clear_sources(gd_spec *spec) {
  spec->data.sources = 0;
  memset(spec->data.path, 0, sizeof spec->data.path);
  memset(spec->data.weight, 0, sizeof spec->data.weight);
}

gd_status gd_config_add_source(const char *path, const char *weight_text, const char *where, gd_spec *spec) {
  gd_data_spec *data = &spec->data;
  if (data->sources >= GD_MAX_SOURCES) {
    return gd_fail_user(GD_USAGE, "%s: found more than %d sources, expected at most %d", where, GD_MAX_SOURCES, GD_MAX_SOURCES);
  }
  float weight = 1.0f;
  if (weight_text && (!gd_config_parse_float(weight_text, &weight) || weight <= 0.0f || weight > 1e9f)) {
    return gd_fail_user(GD_USAGE, "%s: weight: found \"%.100s\", expected a number above 0, at most 1e9", where, weight_text);
  }
  if (!*path) return gd_fail_user(GD_USAGE, "%s: found an empty path, expected a folder", where);
  GD_TRY(set_string(path, where, data->path[data->sources]));
  data->weight[data->sources++] = weight;
  return GD_OK;
}

/* "true" or "false" for the words of the YAML 1.2 core schema, else the text itself. */
static const char *yaml_word(const char *value) {
  static const char *const words[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
  for (int i = 0; i < 6; i++)
    if (!strcmp(value, words[i])) return words[i / 3 * 3];
  return value;
}

static gd_status set_bool(const gd_config_key *key, const char *value, const char *where, void *out) {
  const char *word = yaml_word(value);
  bool yes = strcmp(word, "true") == 0;
  if (!yes && strcmp(word, "false") != 0) return refuse(key, value, where, 0);
  *(bool *)out = yes;
  return GD_OK;
}

static gd_status set_choice(const gd_config_key *key, const char *value, const char *where, void *out) {
  for (const gd_key_choice *c = key->choices; c->name; c++) {
    if (strcmp(c->name, yaml_word(value)) == 0) {
      memcpy(out, &c->value, sizeof c->value);
      return GD_OK;
    }
  }
  return refuse(key, value, where, gd_config_nearest_choice(key->choices, value));
}

static gd_status set_number(const gd_config_key *key, const char *value, const char *where, void *out) {
  if (key->type == GD_KEY_UINT64) {
    char *end;
    errno = 0;
    int64_t whole;
    if (parse_whole(value, &whole) && whole >= 0) {
      *(uint64_t *)out = (uint64_t)whole;
      return GD_OK;
    }
    unsigned long long parsed = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno) return refuse(key, value, where, 0);
    *(uint64_t *)out = parsed;
    return GD_OK;
  }
  if (key->type == GD_KEY_FLOAT) {
    float parsed;
    if (!gd_config_parse_float(value, &parsed) || !in_range(key, (double)parsed)) return refuse(key, value, where, 0);
    *(float *)out = parsed;
    return GD_OK;
  }
  int64_t parsed;
  if (!parse_int(value, strcmp(key->unit, "s") == 0, &parsed) || !in_range(key, (double)parsed)) {
    return refuse(key, value, where, 0);
  }
  if (key->type == GD_KEY_INT64) {
    *(int64_t *)out = parsed;
  } else {
    *(int32_t *)out = (int32_t)parsed;
  }
  return GD_OK;
}

_Static_assert(sizeof(gd_numerics) == sizeof(int) && sizeof(gd_dtype) == sizeof(int), "choices are stored as int");

gd_status gd_config_set_scalar(const gd_config_key *key, const char *value, const char *where, gd_spec *spec) {
  void *out = field(spec, key);
  switch (key->type) {
    case GD_KEY_BOOL: return set_bool(key, value, where, out);
    case GD_KEY_CHOICE: return set_choice(key, value, where, out);
    case GD_KEY_STRING: return set_string(value, where, out);
    case GD_KEY_SOURCES: gd_config_clear_sources(spec); return *value ? gd_config_add_source(value, 0, where, spec) : GD_OK;
    case GD_KEY_PATTERNS:
      if (gd_config_is_null(value)) return refuse(key, value, where, 0);
      gd_config_clear_patterns(key, spec);
      return gd_config_add_pattern(key, value, 0, where, spec);
    case GD_KEY_FACTORS:
      if (!gd_config_is_null(value)) return refuse(key, value, where, 0);
      gd_config_clear_patterns(key, spec);
      return GD_OK;
    case GD_KEY_WEIGHTS:
      if (strcmp(value, "none") != 0 && strcmp(value, "balanced") != 0) return refuse(key, value, where, 0);
      gd_config_clear_weights(key, spec);
      ((gd_class_weights *)out)->count = *value == 'b' ? GD_WEIGHTS_BALANCED : 0;
      return GD_OK;
    default: return set_number(key, value, where, out);
  }
}

static const char *choice_name(const gd_config_key *key, const void *value) {
  int stored;
  memcpy(&stored, value, sizeof stored);
  for (const gd_key_choice *c = key->choices; c->name; c++) {
    if (c->value == stored) return c->name;
  }
  return "?";
}

static char *add(char *out, const char *end, const char *text) {
  while (*text && out < end) *out++ = *text++;
  *out = 0;
  return out;
}

/* One plain folder, or the list as a run file and --set take it. */
static void sources_text(const gd_data_spec *data, char *out, size_t bytes) {
  if (data->sources == 1 && data->weight[0] == 1.0f && !strchr("[{", data->path[0][0])) {
    snprintf(out, bytes, "%s", data->path[0]);
    return;
  }
  char *end = out + bytes - 1; /* of the text that fits */
  for (int32_t i = 0; i < data->sources; i++) {
    out = add(out, end, i ? ", {path: \"" : "[{path: \"");
    for (const char *at = data->path[i]; *at; at++) {
      const char letter[] = {*at, 0};
      if (*at == '"' || *at == '\\') out = add(out, end, "\\");
      out = add(out, end, letter);
    }
    char weight[32];
    snprintf(weight, sizeof weight, "\", weight: %.9g}", (double)data->weight[i]);
    out = add(out, end, weight);
  }
  (void)add(out, end, data->sources ? "]" : "");
}

void gd_config_clear_weights(const gd_config_key *key, gd_spec *spec) {
  memset(field(spec, key), 0, sizeof(gd_class_weights));
}

gd_status gd_config_add_weight(const gd_config_key *key, const char *text, const char *where, gd_spec *spec) {
  gd_class_weights *weights = field(spec, key);
  float value;
  if (!gd_config_parse_float(text, &value) || !(value > 0) || (double)value > key->maximum)
    return gd_fail_user(GD_USAGE, "%s: found \"%.100s\", expected a number above 0, at most %g", where, text, key->maximum);
  if (weights->count == GD_MAX_CLASS_WEIGHTS)
    return gd_fail_user(GD_USAGE, "%s: found more than %d numbers, expected at most so many", where, GD_MAX_CLASS_WEIGHTS);
  weights->value[weights->count++] = value;
  return GD_OK;
}

static void weights_text(const gd_class_weights *weights, char *out, size_t bytes) {
  char *end = out + bytes - 1;
  if (weights->count <= 0) {
    snprintf(out, bytes, "%s", weights->count ? "balanced" : "none");
    return;
  }
  for (int32_t i = 0; i < weights->count; i++) {
    char number[32];
    gd_config_float_text(weights->value[i], number, sizeof number);
    out = add(out, end, i ? ", " : "[");
    out = add(out, end, number);
  }
  (void)add(out, end, "]");
}

const char *gd_config_value(const gd_config_key *key, const gd_spec *spec, char *out, size_t bytes) {
  const void *value = field_const(spec, key);
  switch (key->type) {
    case GD_KEY_BOOL: snprintf(out, bytes, "%s", *(const bool *)value ? "true" : "false"); break;
    case GD_KEY_INT32: snprintf(out, bytes, "%" PRId32, *(const int32_t *)value); break;
    case GD_KEY_INT64: snprintf(out, bytes, "%" PRId64, *(const int64_t *)value); break;
    case GD_KEY_UINT64: snprintf(out, bytes, "%" PRIu64, *(const uint64_t *)value); break;
    case GD_KEY_FLOAT: gd_config_float_text(*(const float *)value, out, bytes); break;
    case GD_KEY_CHOICE: snprintf(out, bytes, "%s", choice_name(key, value)); break;
    case GD_KEY_STRING: snprintf(out, bytes, "%s", (const char *)value); break;
    case GD_KEY_SOURCES: sources_text(&spec->data, out, bytes); break;
    case GD_KEY_PATTERNS:
    case GD_KEY_FACTORS: gd_config_patterns_text(key, spec, out, bytes); break;
    case GD_KEY_WEIGHTS: weights_text(value, out, bytes); break;
  }
  return out;
}
