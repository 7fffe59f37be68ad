/* help_json.c - one JSON document a key of the run file. */
#include "launch/help_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/base/json.h"
#include "io/config/config.h"

static gd_status put_text(gd_bytes *out, const char *before, const char *text) {
  GD_TRY(gd_bytes_printf(out, "%s", before));
  return gd_json_quote(out, text, strlen(text));
}

static const char *type_of(const gd_config_key *key) {
  switch (key->type) {
    case GD_KEY_BOOL: return "boolean";
    case GD_KEY_INT32:
    case GD_KEY_INT64:
    case GD_KEY_UINT64: return "integer";
    case GD_KEY_FLOAT: return "number";
    case GD_KEY_CHOICE: return "choice";
    case GD_KEY_STRING: return "text";
    case GD_KEY_SOURCES:
    case GD_KEY_PATTERNS: return "text or list";
    case GD_KEY_FACTORS: return "map of numbers";
    case GD_KEY_WEIGHTS: return "text or list";
  }
  return "";
}

static gd_status put_range(gd_bytes *out, const gd_config_key *key) {
  if (key->type == GD_KEY_UINT64) return gd_bytes_printf(out, ", \"minimum\": 0, \"maximum\": %" PRIu64, UINT64_MAX);
  if (key->type == GD_KEY_INT32 || key->type == GD_KEY_INT64)
    return gd_bytes_printf(out, ", \"minimum\": %.0f, \"maximum\": %.0f", key->minimum, key->maximum);
  if (key->type == GD_KEY_FLOAT || key->type == GD_KEY_FACTORS)
    return gd_bytes_printf(out, ", \"%s\": %.17g, \"%s\": %.17g", key->minimum_open ? "above" : "minimum", key->minimum,
                           key->maximum_open ? "below" : "maximum", key->maximum);
  if (key->type != GD_KEY_CHOICE) return GD_OK;
  GD_TRY(gd_bytes_printf(out, ", \"choices\": ["));
  for (const gd_key_choice *c = key->choices; c && c->name; c++) GD_TRY(put_text(out, c == key->choices ? "" : ", ", c->name));
  return gd_bytes_printf(out, "]");
}

static gd_status put_key(gd_bytes *out, const gd_config_key *key) {
  const gd_config_alias *aliases;
  int count = gd_config_aliases(&aliases);
  const char *before = "";
  GD_TRY(put_text(out, "{\"key\": ", key->name));
  GD_TRY(put_text(out, ", \"type\": ", type_of(key)));
  GD_TRY(put_range(out, key));
  GD_TRY(put_text(out, ", \"unit\": ", key->unit));
  GD_TRY(put_text(out, ", \"default\": ", key->preset));
  GD_TRY(put_text(out, ", \"help\": ", key->help));
  GD_TRY(gd_bytes_printf(out, ", \"options\": ["));
  for (int i = 0; i < count; i++) {
    if (strcmp(aliases[i].key, key->name) != 0) continue;
    GD_TRY(put_text(out, before, aliases[i].option));
    before = ", ";
  }
  return gd_bytes_printf(out, "]}\n");
}

gd_status gd_help_config_json(void) {
  const gd_config_key *keys;
  gd_bytes text = {0};
  gd_status status = GD_OK;
  for (int i = 0, count = gd_config_keys(&keys); status == GD_OK && i < count; i++) status = put_key(&text, &keys[i]);
  if (status == GD_OK) fputs(text.bytes, stdout);
  gd_bytes_free(&text);
  return status;
}
