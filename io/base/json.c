/* json.c - JSON text to a tree of nodes, and strings back to JSON text. */
#include "io/base/json.h"
#include "io/base/utf8.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 1 << 24 };

/* cJSON ends a string at U+0000, so it sees these two bytes in its place, which no UTF-8 text holds. */
static const char nul_stand_in[] = "\xc0\x80";

static const cJSON *node_of(const gd_json *node) {
  return (const cJSON *)(const void *)node;
}
static const gd_json *json_of(const cJSON *node) {
  return (const gd_json *)(const void *)node;
}

/* The next escape of U+0000 at or after `at`; NULL: none. */
static const char *next_nul(const char *text, size_t count, const char *at) {
  for (; (at = memmem(at, count - (size_t)(at - text), "\\u0000", 6)); at += 6) {
    size_t backslashes = 0; /* an odd run before it means that the backslash itself is escaped */
    while (at - text > (ptrdiff_t)backslashes && at[-1 - (ptrdiff_t)backslashes] == '\\') backslashes++;
    if (backslashes % 2 == 0) return at;
  }
  return NULL;
}

static gd_status replace_nuls(const char *text, size_t count, gd_bytes *out) {
  const char *at = text;
  for (const char *nul; (nul = next_nul(text, count, at)); at = nul + 6) {
    GD_TRY(gd_bytes_append(out, at, (size_t)(nul - at)));
    GD_TRY(gd_bytes_append(out, nul_stand_in, 2));
  }
  return gd_bytes_append(out, at, count - (size_t)(at - text));
}

static gd_status parse(const char *text, size_t count, const char *name, int64_t first_line, gd_json **out) {
  const char *end = text;
  cJSON *root = cJSON_ParseWithLengthOpts(text, count, &end, false);
  if (root) {
    while (end < text + count && (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r')) end++;
    if (end == text + count) {
      *out = (gd_json *)(void *)root;
      return GD_OK;
    }
    cJSON_Delete(root);
  }
  if (end < text || end > text + count) end = text;
  int64_t line = first_line;
  for (const char *at = text; at < end; at++) line += *at == '\n';
  size_t left = (size_t)(text + count - end);
  if (!left) return gd_fail_user(GD_BAD_DATA, "%s:%lld: the text ends here, expected more JSON", name, (long long)line);
  size_t shown = left < 24 ? left : 24;
  char found[25];
  for (size_t i = 0; i < shown; i++) found[i] = (unsigned char)end[i] < 32 ? ' ' : end[i];
  found[shown] = 0;
  return gd_fail_user(GD_BAD_DATA, "%s:%lld: found \"%s\", expected valid JSON", name, (long long)line, found);
}

/* Whether text[count] holds more than MOST_VALUES values: one behind each bracket and comma outside strings, at most. A value
 * takes 80 bytes, and two bytes of text are one. */
static bool too_many_values(const char *text, size_t count) {
  if (count <= MOST_VALUES) return false;
  size_t values = 1;
  bool quoted = false;
  for (size_t i = 0; i < count; i++) {
    if (quoted && text[i] == '\\')
      i++;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted)
      values += text[i] == ',' || text[i] == '[' || text[i] == '{';
  }
  return values > MOST_VALUES;
}

gd_status gd_json_parse(const char *text, size_t count, const char *name, int64_t first_line, gd_json **out) {
  *out = NULL;
  if (too_many_values(text, count))
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: found more than %d values in one JSON text", name, (long long)first_line,
                        MOST_VALUES);
  if (!next_nul(text, count, text)) return parse(text, count, name, first_line, out);
  gd_bytes copy = {0};
  gd_status status = replace_nuls(text, count, &copy);
  if (status == GD_OK) status = parse(copy.bytes, copy.count, name, first_line, out);
  gd_bytes_free(&copy);
  return status;
}

gd_status gd_json_text(const gd_json *node, gd_bytes *out) {
  const char *text = gd_json_string(node);
  if (!text) return gd_fail(GD_BUG, "not a JSON string");
  for (const char *nul; (nul = strstr(text, nul_stand_in)); text = nul + 2) {
    GD_TRY(gd_bytes_append(out, text, (size_t)(nul - text)));
    GD_TRY(gd_bytes_append(out, "", 1));
  }
  return gd_bytes_append(out, text, strlen(text));
}

gd_status gd_json_read(const char *path, size_t limit, gd_json **out) {
  *out = NULL;
  gd_bytes text = {0};
  gd_status status = gd_file_read(path, limit, &text);
  if (status == GD_OK) status = gd_json_parse(text.bytes, text.count, path, 1, out);
  gd_bytes_free(&text);
  return status;
}

void gd_json_free(gd_json *root) {
  cJSON_Delete((cJSON *)(void *)root);
}

const gd_json *gd_json_get(const gd_json *object, const char *key) {
  return gd_json_is_object(object) ? json_of(cJSON_GetObjectItemCaseSensitive(node_of(object), key)) : NULL;
}

const gd_json *gd_json_first(const gd_json *node) {
  return node ? json_of(node_of(node)->child) : NULL;
}

const gd_json *gd_json_next(const gd_json *node) {
  return node ? json_of(node_of(node)->next) : NULL;
}

const char *gd_json_key(const gd_json *node) {
  return node ? node_of(node)->string : NULL;
}

bool gd_json_is_object(const gd_json *node) {
  return node && cJSON_IsObject(node_of(node));
}

bool gd_json_is_array(const gd_json *node) {
  return node && cJSON_IsArray(node_of(node));
}

bool gd_json_is_null(const gd_json *node) {
  return node && cJSON_IsNull(node_of(node));
}

const char *gd_json_string(const gd_json *node) {
  return node && cJSON_IsString(node_of(node)) ? node_of(node)->valuestring : NULL;
}

bool gd_json_number(const gd_json *node, double *out) {
  if (!node || !cJSON_IsNumber(node_of(node))) return false;
  *out = node_of(node)->valuedouble;
  return true;
}

bool gd_json_integer(const gd_json *node, int64_t *out) {
  double value;
  if (!gd_json_number(node, &value) || !(fabs(value) < 0x1p53) || value != floor(value)) return false;
  *out = (int64_t)value;
  return true;
}

bool gd_json_boolean(const gd_json *node, bool *out) {
  if (!node || !cJSON_IsBool(node_of(node))) return false;
  *out = cJSON_IsTrue(node_of(node));
  return true;
}

gd_status gd_json_print(const gd_json *node, gd_bytes *out) {
  char *text = cJSON_PrintUnformatted(node_of(node));
  if (!text) return gd_fail(GD_NO_MEMORY, "no memory to write JSON");
  gd_status status = GD_OK;
  const char *at = text;
  for (const char *nul; status == GD_OK && (nul = strstr(at, nul_stand_in)); at = nul + 2) {
    status = gd_bytes_append(out, at, (size_t)(nul - at));
    if (status == GD_OK) status = gd_bytes_append(out, "\\u0000", 6);
  }
  if (status == GD_OK) status = gd_bytes_append(out, at, strlen(at));
  cJSON_free(text);
  return status;
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* The end of a number; NULL: JSON has no such form. */
static const char *number_end(const char *at) {
  at += *at == '-';
  if (!is_digit(*at) || (*at == '0' && is_digit(at[1]))) return NULL;
  while (is_digit(*at)) at++;
  if (*at == '.' && !is_digit(at[1])) return NULL;
  return at + strspn(at, "0123456789.eE+-");
}

bool gd_json_strict(const char *text, size_t count) {
  bool inside = false;
  for (const char *at = text; at && at < text + count;) {
    if ((unsigned char)*at < 32 && (inside || !strchr("\t\n\r", *at))) return false;
    if (!inside && (*at == '-' || is_digit(*at))) {
      at = number_end(at);
      if (!at) return false;
      continue;
    }
    if (*at == '"') inside = !inside;
    at += inside && *at == '\\' ? 2 : 1;
  }
  return true;
}

/* The comma or bracket behind the member of an object that begins at `at`, in valid JSON. */
static const char *member_end(const char *at) {
  bool inside = false;
  for (size_t depth = 0;; at++) {
    if (inside && *at == '\\')
      at++;
    else if (*at == '"')
      inside = !inside;
    else if (!inside && (*at == '{' || *at == '['))
      depth++;
    else if (!inside && !depth && (*at == ',' || *at == '}'))
      return at;
    else if (!inside && (*at == '}' || *at == ']'))
      depth--;
  }
}

gd_status gd_json_copy_members(const gd_json *object, const char *text, bool (*wanted)(const char *key), gd_bytes *out) {
  const char *at = text, *end;
  bool first = true;
  for (const gd_json *node = gd_json_first(object); node; node = gd_json_next(node), at = end) {
    while (*at != '"') at++; /* behind the bracket or a comma */
    end = member_end(at);
    if (wanted && !wanted(gd_json_key(node))) continue;
    size_t count = (size_t)(end - at);
    while ((unsigned char)at[count - 1] <= ' ') count--;
    if (!first) GD_TRY(gd_bytes_append(out, ",", 1));
    GD_TRY(gd_bytes_append(out, at, count));
    first = false;
  }
  return GD_OK;
}

gd_status gd_json_quote(gd_bytes *out, const char *text, size_t count) {
  GD_TRY(gd_bytes_append(out, "\"", 1));
  for (size_t i = 0; i < count;) {
    size_t length = gd_utf8_length(text + i, count - i, NULL);
    unsigned char byte = (unsigned char)text[i];
    if (!length) {
      GD_TRY(gd_bytes_append(out, "\xef\xbf\xbd", 3));
      i++;
      continue;
    }
    if (byte == '"' || byte == '\\')
      GD_TRY(gd_bytes_printf(out, "\\%c", byte));
    else if (byte == '\n')
      GD_TRY(gd_bytes_append(out, "\\n", 2));
    else if (byte < 32 || byte == 127)
      GD_TRY(gd_bytes_printf(out, "\\u%04x", byte));
    else
      GD_TRY(gd_bytes_append(out, text + i, length));
    i += length;
  }
  return gd_bytes_append(out, "\"", 1);
}
