/* patterns.c - patterns of tensor names, alone or with a factor each: text to a gd_patterns and back. What they match is looked
 * at where the names are known (shard/trained.h). */
#include <stdio.h>
#include <string.h>

#include "io/config/internal.h"

static gd_patterns *patterns_of(const gd_config_key *key, gd_spec *spec) {
  return (gd_patterns *)(void *)((char *)spec + key->offset);
}

void gd_config_clear_patterns(const gd_config_key *key, gd_spec *spec) {
  memset(patterns_of(key, spec), 0, sizeof(gd_patterns));
}

/* What tensor names and wildcards are made of; none of it needs an escape in YAML's quotes. */
static bool is_pattern(const char *text) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  static const char others[] = "._-*?[]!:";
  for (; *text; text++)
    if (!strchr(letters, *text) && !strchr(others, *text)) return false;
  return true;
}

gd_status gd_config_add_pattern(const gd_config_key *key, const char *pattern, const char *factor, const char *where,
                                gd_spec *spec) {
  gd_patterns *patterns = patterns_of(key, spec);
  float value = 0;
  if (!*pattern || strlen(pattern) >= GD_NAME_BYTES || !is_pattern(pattern))
    return gd_fail_user(GD_USAGE, "%s: found \"%.100s\", expected a tensor name of at most %d letters, with *, ? or [a-b]",
                        where, pattern, GD_NAME_BYTES - 1);
  if (factor && (!gd_config_parse_float(factor, &value) || (double)value < key->minimum || (double)value > key->maximum))
    return gd_fail_user(GD_USAGE, "%s: %s: found \"%.100s\", expected a number from %g to %g", where, pattern, factor,
                        key->minimum, key->maximum);
  if (!factor && strcmp(pattern, "all") == 0) return GD_OK;
  for (int32_t i = 0; i < patterns->count; i++)
    if (strcmp(patterns->text[i], pattern) == 0)
      return gd_fail_user(GD_USAGE, "%s: found %s twice, expected it once", where, pattern);
  if (patterns->count == GD_MAX_PATTERNS)
    return gd_fail_user(GD_USAGE, "%s: found more than %d patterns, expected at most so many; * stands for many names", where,
                        GD_MAX_PATTERNS);
  memcpy(patterns->text[patterns->count], pattern, strlen(pattern));
  patterns->value[patterns->count++] = value;
  return GD_OK;
}

void gd_config_patterns_text(const gd_config_key *key, const gd_spec *spec, char *out, size_t bytes) {
  const gd_patterns *patterns = (const gd_patterns *)(const void *)((const char *)spec + key->offset);
  bool factors = key->type == GD_KEY_FACTORS;
  if (!patterns->count) {
    snprintf(out, bytes, "%s", factors ? "{}" : "all");
    return;
  }
  if (!factors && patterns->count == 1 && !strpbrk(patterns->text[0], "*?[]!")) {
    snprintf(out, bytes, "%s", patterns->text[0]);
    return;
  }
  size_t used = 0;
  for (int32_t i = 0; i < patterns->count && used < bytes; i++) {
    char value[32] = "";
    if (factors) {
      memcpy(value, ": ", 3);
      gd_config_float_text(patterns->value[i], value + 2, sizeof value - 2);
    }
    used += (size_t)snprintf(out + used, bytes - used, "%s\"%s\"%s", i ? ", " : factors ? "{" : "[", patterns->text[i], value);
  }
  if (used < bytes) snprintf(out + used, bytes - used, "%s", factors ? "}" : "]");
}
