/* origins.c - where each value of a spec came from, for the messages that name several keys. */
#include <ctype.h>
#include <string.h>

#include "io/config/internal.h"

void gd_config_set_origin(gd_config_origins *origins, const gd_config_key *key, const char *text) {
  if (!origins) return;
  const gd_config_key *keys;
  gd_config_keys(&keys);
  snprintf(origins->text[key - keys], GD_CONFIG_ORIGIN_BYTES, "%s", text);
}

const char *gd_config_origin(const gd_config_origins *origins, const char *name) {
  const gd_config_key *keys, *key = gd_config_find(name);
  if (!key) return "unknown";
  gd_config_keys(&keys);
  return origins->text[key - keys];
}

/* Whether the text holds the name as a word of its own. */
static bool names(const char *text, const char *name) {
  size_t length = strlen(name);
  for (const char *p = strstr(text, name); p; p = strstr(p + 1, name)) {
    char before = p == text ? ' ' : p[-1], after = p[length];
    bool open = isalnum((unsigned char)before) || before == '_' || before == '.';
    bool goes_on = isalnum((unsigned char)after) || after == '_' || (after == '.' && isalnum((unsigned char)p[length + 1]));
    if (!open && !goes_on) return true;
  }
  return false;
}

gd_status gd_config_explain(gd_status status, const gd_config_origins *origins) {
  if (status != GD_USAGE) return status;
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  char line[1024];
  size_t used = 0;
  for (int i = 0; i < n && used < sizeof line; i++) {
    if (!origins->text[i][0] || !names(gd_error_text(), keys[i].name)) continue;
    bool is_default = strcmp(origins->text[i], "default") == 0;
    used += (size_t)snprintf(line + used, sizeof line - used, "%s%s: %s%s", used ? "; " : "", keys[i].name,
                             is_default ? "the default" : "from ", is_default ? "" : origins->text[i]);
  }
  return used ? gd_error_context(status, "%s", line) : status;
}
