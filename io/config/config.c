/* config.c - defaults, file, overrides; and the spec back to text. */
#include "io/config/config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/internal.h"

void gd_config_defaults(gd_spec *out) {
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  memset(out, 0, sizeof *out);
  for (int i = 0; i < n; i++) {
    /* A default that its own key refuses is caught by a test; the field then stays 0. */
    if (gd_config_set(&keys[i], keys[i].preset, "default", out) != GD_OK) continue;
  }
}

static gd_status apply_override(const gd_config_override *override, gd_spec *spec, gd_config_origins *origins) {
  const gd_config_key *key = gd_config_find(override->key);
  if (!key) return gd_config_unknown(override->option, override->key);
  char where[160];
  if (strcmp(override->option, "--set") == 0) {
    snprintf(where, sizeof where, "--set %s", key->name);
  } else {
    snprintf(where, sizeof where, "%.40s (%s)", override->option, key->name);
  }
  GD_TRY(gd_config_set(key, override->value, where, spec));
  gd_config_set_origin(origins, key, override->option);
  return GD_OK;
}

static void begin(gd_spec *out, gd_config_origins *origins) {
  gd_config_defaults(out);
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  if (origins) memset(origins, 0, sizeof *origins);
  for (int i = 0; i < n; i++) gd_config_set_origin(origins, &keys[i], "default");
}

static gd_status finish(const gd_config_override *overrides, int count, gd_spec *out, gd_config_origins *origins) {
  for (int i = 0; i < count; i++) GD_TRY(apply_override(&overrides[i], out, origins));
  return GD_OK;
}

gd_status gd_config_load(const char *path, const gd_config_override *overrides, int count, gd_spec *out,
                         gd_config_origins *origins) {
  begin(out, origins);
  gd_config_target target = {.spec = out, .origins = origins};
  if (path) GD_TRY(gd_config_yaml_file(path, &target));
  return finish(overrides, count, out, origins);
}

gd_status gd_config_load_text(const char *name, const char *text, size_t bytes, const gd_config_override *overrides, int count,
                              gd_spec *out, gd_config_origins *origins) {
  begin(out, origins);
  gd_config_target target = {.spec = out, .origins = origins};
  GD_TRY(gd_config_yaml_text(name, text, bytes, &target));
  return finish(overrides, count, out, origins);
}

/* Text under construction; counts on past the end, as snprintf does. */
typedef struct writer {
  char *out;
  size_t bytes, used;
} writer;

static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(writer *w, const char *format, ...) {
  va_list list;
  va_start(list, format);
  size_t room = w->used < w->bytes ? w->bytes - w->used : 0;
  w->used += (size_t)vsnprintf(room ? w->out + w->used : 0, room, format, list);
  va_end(list);
}

/* Double quotes take every text; the values hold no control characters. */
static void put_quoted(writer *w, const char *text) {
  put(w, "\"");
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') put(w, "\\");
    put(w, "%c", *text);
  }
  put(w, "\"");
}

static void put_sources(writer *w, const gd_data_spec *data) {
  if (data->sources == 0) put(w, " \"\"");
  for (int32_t i = 0; i < data->sources; i++) {
    put(w, "\n    - path: ");
    put_quoted(w, data->path[i]);
    put(w, "\n      weight: %.9g", (double)data->weight[i]);
  }
}

size_t gd_config_write(const gd_spec *spec, char *out, size_t bytes) {
  writer w = {out, bytes, 0};
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  char section[64] = "", value[GD_CONFIG_VALUE_BYTES];
  for (int i = 0; i < n; i++) {
    const char *dot = strchr(keys[i].name, '.');
    const char *member = dot ? dot + 1 : keys[i].name;
    int length = dot ? (int)(dot - keys[i].name) : 0;
    if (dot && (strncmp(section, keys[i].name, (size_t)length) != 0 || section[length])) {
      snprintf(section, sizeof section, "%.*s", length, keys[i].name);
      put(&w, "%s:\n", section);
    }
    put(&w, "%s%s:", dot ? "  " : "", member);
    if (keys[i].type == GD_KEY_SOURCES) {
      put_sources(&w, &spec->data);
    } else if (keys[i].type == GD_KEY_STRING) {
      put(&w, " ");
      put_quoted(&w, (const char *)spec + keys[i].offset);
    } else {
      put(&w, " %s", gd_config_value(&keys[i], spec, value, sizeof value));
    }
    put(&w, "\n");
  }
  return w.used;
}

int gd_config_compare(const gd_spec *a, const gd_spec *b, gd_config_difference *visit, void *context) {
  const gd_config_key *keys;
  int n = gd_config_keys(&keys), differences = 0;
  char text_a[GD_CONFIG_VALUE_BYTES], text_b[GD_CONFIG_VALUE_BYTES];
  for (int i = 0; i < n; i++) {
    gd_config_value(&keys[i], a, text_a, sizeof text_a);
    gd_config_value(&keys[i], b, text_b, sizeof text_b);
    bool differ = strcmp(text_a, text_b) != 0;
    if (keys[i].type == GD_KEY_SOURCES) { /* their text may have been cut */
      differ = a->data.sources != b->data.sources || memcmp(a->data.path, b->data.path, sizeof a->data.path) != 0 ||
               memcmp(a->data.weight, b->data.weight, sizeof a->data.weight) != 0;
    }
    if (!differ) continue;
    differences++;
    if (visit) visit(context, &keys[i], text_a, text_b);
  }
  return differences;
}

static const char *type_name(const gd_config_key *key) {
  switch (key->type) {
    case GD_KEY_BOOL: return "true|false";
    case GD_KEY_INT32:
    case GD_KEY_INT64:
    case GD_KEY_UINT64: return "integer";
    case GD_KEY_FLOAT: return "number";
    case GD_KEY_STRING: return "text";
    case GD_KEY_SOURCES:
    case GD_KEY_PATTERNS: return "text or list";
    case GD_KEY_FACTORS: return "map of numbers";
    case GD_KEY_WEIGHTS: return "none|balanced|list of numbers";
    case GD_KEY_CHOICE: break;
  }
  return "";
}

static void describe(const gd_config_key *key, char *out, size_t bytes) {
  writer w = {out, bytes, 0};
  put(&w, "%s", type_name(key));
  for (const gd_key_choice *c = key->choices; c && c->name; c++) put(&w, "%s%s", c == key->choices ? "" : "|", c->name);
  if (key->type == GD_KEY_FLOAT || key->type == GD_KEY_FACTORS) {
    put(&w, " %s%g..%g%s", key->minimum_open ? ">" : "", key->minimum, key->maximum,
        key->maximum_open ? " (not included)" : "");
  } else if (key->type == GD_KEY_UINT64) {
    put(&w, " 0..%" PRIu64, UINT64_MAX);
  } else if (key->type == GD_KEY_INT32 || key->type == GD_KEY_INT64) {
    put(&w, " %.0f..%.0f", key->minimum, key->maximum);
  }
  if (*key->unit) put(&w, " %s", key->unit);
}

void gd_config_print_help(gd_config_line *line, void *context) {
  const gd_config_key *keys;
  const gd_config_alias *aliases;
  int n = gd_config_keys(&keys), m = gd_config_aliases(&aliases);
  char text[512], kind[256];
  line(context, "Keys of a run file (YAML), of --set KEY=VALUE, and their other spellings.");
  line(context, "include: FILE reads another file first (relative to this one); this one wins.");
  for (int i = 0; i < n; i++) {
    const char *before = i ? keys[i - 1].name : "";
    size_t section = strcspn(keys[i].name, ".");
    if (i == 0 || strcspn(before, ".") != section || strncmp(before, keys[i].name, section) != 0) line(context, "");
    describe(&keys[i], kind, sizeof kind);
    writer w = {text, sizeof text, 0};
    put(&w, "%-28s %s; default %s", keys[i].name, kind, *keys[i].preset ? keys[i].preset : "(empty)");
    line(context, text);
    if (*keys[i].help) {
      snprintf(text, sizeof text, "%-28s %s", "", keys[i].help);
      line(context, text);
    }
    w = (writer){text, sizeof text, 0};
    for (int k = 0; k < m; k++) {
      if (strcmp(aliases[k].key, keys[i].name) != 0) continue;
      put(&w, w.used ? ", %s%s%s" : "                             also %s%s%s", aliases[k].option,
          aliases[k].value ? " = " : "", aliases[k].value ? aliases[k].value : "");
    }
    if (w.used) line(context, text);
  }
}
