/* yaml.c - the YAML side of the configuration: the only file that includes yaml.h. Nodes carry their line, so each message
 * names it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "io/base/files.h"
#include "io/config/config.h"
#include "io/config/internal.h"

enum { INCLUDE_DEPTH = 8, INCLUDE_FILES = 16, INCLUDE_ALL = 64, MAP_KEYS = 1024, NAME_BYTES = 96, WHERE_BYTES = 1400 };
static const size_t file_limit_bytes = 1 << 20;

/* One document under way. */
typedef struct reader {
  const char *name; /* of the file, as messages say it */
  yaml_document_t document;
  gd_config_target *target;
} reader;

static int line_of(const yaml_node_t *node) {
  return (int)node->start_mark.line + 1;
}

static const char *scalar(const yaml_node_t *node) {
  return (const char *)node->data.scalar.value;
}

static yaml_node_t *node_at(reader *r, int index) {
  return yaml_document_get_node(&r->document, index);
}

static const char *kind_of(const yaml_node_t *node) {
  return node->type == YAML_MAPPING_NODE ? "a section" : node->type == YAML_SEQUENCE_NODE ? "a list" : "a value";
}

static gd_status check_key_node(reader *r, const yaml_node_t *node) {
  if (node->type != YAML_SCALAR_NODE) {
    return gd_fail_user(GD_USAGE, "%s:%d: found %s where a key was expected", r->name, line_of(node), kind_of(node));
  }
  if (strlen(scalar(node)) >= NAME_BYTES / 2 || strlen(scalar(node)) != node->data.scalar.length) {
    return gd_fail_user(GD_USAGE, "%s:%d: \"%.40s...\": unknown key; --help-config lists all keys", r->name, line_of(node),
                        scalar(node));
  }
  return GD_OK;
}

/* A key may stand once in its mapping. */
static gd_status check_duplicates(reader *r, const yaml_node_t *mapping, const char *section) {
  if (mapping->data.mapping.pairs.top - mapping->data.mapping.pairs.start > MAP_KEYS) /* each is compared with each */
    return gd_fail_user(GD_USAGE, "%s:%d: %s%sfound more than %d keys, expected a run file", r->name, line_of(mapping), section,
                        *section ? ": " : "", MAP_KEYS);
  for (yaml_node_pair_t *b = mapping->data.mapping.pairs.start; b < mapping->data.mapping.pairs.top; b++) {
    const yaml_node_t *key = node_at(r, b->key);
    GD_TRY(check_key_node(r, key));
    for (yaml_node_pair_t *a = mapping->data.mapping.pairs.start; a < b; a++) {
      const yaml_node_t *earlier = node_at(r, a->key);
      if (strcmp(scalar(earlier), scalar(key)) == 0) {
        return gd_fail_user(GD_USAGE, "%s:%d: %s%s%s: found twice, expected once (first on line %d)", r->name, line_of(key),
                            section, *section ? "." : "", scalar(key), line_of(earlier));
      }
    }
  }
  return GD_OK;
}

/* A C string ends at a zero byte, and so would what a person wrote. */
static gd_status check_text(const yaml_node_t *node, const char *where) {
  if (node->type != YAML_SCALAR_NODE || strlen(scalar(node)) == node->data.scalar.length) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: found a zero byte, expected text without one", where);
}

static gd_status read_source(reader *r, const yaml_node_t *entry, const char *where) {
  gd_spec *spec = r->target->spec;
  GD_TRY(check_text(entry, where));
  if (entry->type == YAML_SCALAR_NODE) return gd_config_add_source(scalar(entry), 0, where, spec);
  if (entry->type != YAML_MAPPING_NODE) {
    return gd_fail_user(GD_USAGE, "%s: found a list inside the list, expected {path, weight}", where);
  }
  GD_TRY(check_duplicates(r, entry, "data.path"));
  const char *path = 0, *weight = 0;
  for (yaml_node_pair_t *p = entry->data.mapping.pairs.start; p < entry->data.mapping.pairs.top; p++) {
    const yaml_node_t *key = node_at(r, p->key), *value = node_at(r, p->value);
    bool is_path = strcmp(scalar(key), "path") == 0;
    if (!is_path && strcmp(scalar(key), "weight") != 0) {
      return gd_fail_user(GD_USAGE, "%s: \"%s\": unknown key, expected path or weight", where, scalar(key));
    }
    if (value->type != YAML_SCALAR_NODE) {
      return gd_fail_user(GD_USAGE, "%s: %s: found %s, expected a value", where, scalar(key), kind_of(value));
    }
    GD_TRY(check_text(value, where));
    *(is_path ? &path : &weight) = scalar(value);
  }
  if (!path) return gd_fail_user(GD_USAGE, "%s: found an entry without a path, expected {path, weight}", where);
  return gd_config_add_source(path, weight, where, spec);
}

static gd_status read_sources(reader *r, const yaml_node_t *list, const char *name) {
  char where[WHERE_BYTES];
  gd_config_clear_sources(r->target->spec);
  for (yaml_node_item_t *item = list->data.sequence.items.start; item < list->data.sequence.items.top; item++) {
    const yaml_node_t *entry = node_at(r, *item);
    snprintf(where, sizeof where, "%s:%d: %s", r->name, line_of(entry), name);
    GD_TRY(read_source(r, entry, where));
  }
  return GD_OK;
}

static gd_status read_patterns(reader *r, const gd_config_key *key, const yaml_node_t *list, const char *where) {
  gd_spec *spec = r->target->spec;
  gd_config_clear_patterns(key, spec);
  if (list->data.sequence.items.start == list->data.sequence.items.top)
    return gd_fail_user(GD_USAGE, "%s: found an empty list, expected at least one pattern: else everything would be frozen",
                        where);
  for (yaml_node_item_t *item = list->data.sequence.items.start; item < list->data.sequence.items.top; item++) {
    const yaml_node_t *entry = node_at(r, *item);
    if (entry->type != YAML_SCALAR_NODE)
      return gd_fail_user(GD_USAGE, "%s: found %s inside the list, expected a tensor name", where, kind_of(entry));
    GD_TRY(check_text(entry, where));
    if (strcmp(scalar(entry), "all") == 0 && list->data.sequence.items.top - list->data.sequence.items.start > 1)
      return gd_fail_user(GD_USAGE, "%s: found all beside other patterns, expected all alone", where);
    GD_TRY(gd_config_add_pattern(key, scalar(entry), 0, where, spec));
  }
  return GD_OK;
}

static gd_status read_factors(reader *r, const gd_config_key *key, const yaml_node_t *map, const char *where) {
  gd_spec *spec = r->target->spec;
  gd_config_clear_patterns(key, spec);
  for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
    const yaml_node_t *pattern = node_at(r, p->key), *factor = node_at(r, p->value);
    if (pattern->type != YAML_SCALAR_NODE || factor->type != YAML_SCALAR_NODE)
      return gd_fail_user(GD_USAGE, "%s: found %s inside the map, expected tensor names and numbers", where,
                          kind_of(pattern->type != YAML_SCALAR_NODE ? pattern : factor));
    GD_TRY(check_text(pattern, where));
    GD_TRY(check_text(factor, where));
    GD_TRY(gd_config_add_pattern(key, scalar(pattern), scalar(factor), where, spec));
  }
  return GD_OK;
}

static gd_status read_weights(reader *r, const gd_config_key *key, const yaml_node_t *list, const char *where) {
  gd_spec *spec = r->target->spec;
  gd_config_clear_weights(key, spec);
  if (list->data.sequence.items.start == list->data.sequence.items.top)
    return gd_fail_user(GD_USAGE, "%s: found an empty list, expected a number for each label", where);
  for (yaml_node_item_t *item = list->data.sequence.items.start; item < list->data.sequence.items.top; item++) {
    const yaml_node_t *entry = node_at(r, *item);
    if (entry->type != YAML_SCALAR_NODE)
      return gd_fail_user(GD_USAGE, "%s: found %s inside the list, expected a number", where, kind_of(entry));
    GD_TRY(check_text(entry, where));
    GD_TRY(gd_config_add_weight(key, scalar(entry), where, spec));
  }
  return GD_OK;
}

/* The kind of node that a key takes besides a single value; YAML_NO_NODE: none. */
static yaml_node_type_t collection_of(const gd_config_key *key) {
  if (key->type == GD_KEY_FACTORS) return YAML_MAPPING_NODE;
  bool list = key->type == GD_KEY_SOURCES || key->type == GD_KEY_PATTERNS || key->type == GD_KEY_WEIGHTS;
  return list ? YAML_SEQUENCE_NODE : YAML_NO_NODE;
}

/* where: of the list's entries. */
static gd_status read_collection(reader *r, const gd_config_key *key, const yaml_node_t *node, const char *where) {
  if (key->type == GD_KEY_PATTERNS) return read_patterns(r, key, node, where);
  if (key->type == GD_KEY_WEIGHTS) return read_weights(r, key, node, where);
  return key->type == GD_KEY_FACTORS ? read_factors(r, key, node, where) : read_sources(r, node, key->name);
}

/* Of a list or a map in one line of text: what stands behind it belongs to nothing. */
static gd_status check_end(yaml_parser_t *parser, const char *what, const char *where) {
  yaml_document_t next;
  bool more = !yaml_parser_load(parser, &next);
  if (!more) {
    more = yaml_document_get_root_node(&next);
    yaml_document_delete(&next);
  }
  return more ? gd_fail_user(GD_USAGE, "%s: found more behind the %s, expected its end", where, what) : GD_OK;
}

/* A list or a map in one line of text. */
static gd_status collection_of_line(const gd_config_key *key, const char *text, const char *where, gd_spec *spec) {
  yaml_parser_t parser;
  if (!yaml_parser_initialize(&parser)) return gd_fail(GD_NO_MEMORY, "%s: out of memory", where);
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
  gd_config_target target = {.spec = spec};
  reader r = {.name = where, .target = &target};
  const char *what = key->type == GD_KEY_FACTORS ? "map" : "list";
  gd_status status = GD_OK;
  if (!yaml_parser_load(&parser, &r.document)) {
    status = gd_fail_user(GD_USAGE, "%s: not a valid %s: %s", where, what, parser.problem ? parser.problem : "not YAML");
    yaml_parser_delete(&parser);
    return status;
  }
  yaml_node_t *root = yaml_document_get_root_node(&r.document);
  if (key->type != GD_KEY_SOURCES) {
    status = root && root->type == collection_of(key) ? read_collection(&r, key, root, where)
                                                      : gd_config_set_scalar(key, text, where, spec);
  } else if (!root || root->type != YAML_SEQUENCE_NODE) {
    status = gd_fail_user(GD_USAGE, "%s: found \"%.100s\", expected a folder, or a list of {path, weight}", where, text);
  } else {
    for (yaml_node_item_t *item = root->data.sequence.items.start; status == GD_OK && item < root->data.sequence.items.top;
         item++) {
      status = read_source(&r, node_at(&r, *item), where);
    }
  }
  if (status == GD_OK) status = check_end(&parser, what, where);
  yaml_document_delete(&r.document);
  yaml_parser_delete(&parser);
  return status;
}

gd_status gd_config_set(const gd_config_key *key, const char *value, const char *where, gd_spec *spec) {
  if (collection_of(key) == YAML_NO_NODE || (*value != '[' && *value != '{'))
    return gd_config_set_scalar(key, value, where, spec);
  if (key->type == GD_KEY_SOURCES) gd_config_clear_sources(spec);
  return collection_of_line(key, value, where, spec);
}

static gd_status read_value(reader *r, const char *name, const yaml_node_t *key_node, const yaml_node_t *value) {
  char where[WHERE_BYTES];
  snprintf(where, sizeof where, "%s:%d", r->name, line_of(key_node));
  const gd_config_key *key = gd_config_find(name);
  if (!key) return gd_config_unknown(where, name);
  gd_config_set_origin(r->target->origins, key, where);
  snprintf(where, sizeof where, "%s:%d: %s", r->name, line_of(value), name);
  if (value->type == collection_of(key)) return read_collection(r, key, value, where);
  if (value->type != YAML_SCALAR_NODE) {
    return gd_fail_user(GD_USAGE, "%s: found %s, expected %s", where, kind_of(value),
                        key->type == GD_KEY_FACTORS    ? "a map of tensor names to factors"
                        : key->type == GD_KEY_PATTERNS ? "a single value or a list"
                        : key->type == GD_KEY_WEIGHTS  ? "none, balanced or a list"
                                                       : "a single value");
  }
  GD_TRY(check_text(value, where));
  bool plain = value->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  bool text = key->type == GD_KEY_STRING || collection_of(key) != YAML_NO_NODE;
  return gd_config_set(key, plain && text && gd_config_is_null(scalar(value)) ? "" : scalar(value), where, r->target->spec);
}

static bool is_section(const char *name) {
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  size_t length = strlen(name);
  for (int i = 0; i < n; i++) {
    if (strncmp(keys[i].name, name, length) == 0 && keys[i].name[length] == '.') return true;
  }
  return false;
}

static gd_status unknown_section(reader *r, const yaml_node_t *key, const yaml_node_t *value) {
  const gd_config_key *keys;
  int n = gd_config_keys(&keys), best = 1000;
  char nearest[NAME_BYTES] = "", where[WHERE_BYTES];
  for (int i = 0; i < n; i++) {
    char section[NAME_BYTES];
    snprintf(section, sizeof section, "%.*s", (int)strcspn(keys[i].name, "."), keys[i].name);
    int distance = gd_config_distance(scalar(key), section);
    if (distance < best) best = distance, memcpy(nearest, section, sizeof nearest);
  }
  if (gd_config_is_near(scalar(key), best)) {
    return gd_fail_user(GD_USAGE, "%s:%d: %s: unknown section; did you mean \"%s\"?", r->name, line_of(key), scalar(key),
                        nearest);
  }
  snprintf(where, sizeof where, "%s:%d", r->name, line_of(key));
  if (value->type == YAML_SCALAR_NODE) return gd_config_unknown(where, scalar(key));
  return gd_fail_user(GD_USAGE, "%s: %s: unknown section; --help-config lists all keys", where, scalar(key));
}

static gd_status read_section(reader *r, const yaml_node_t *key, const yaml_node_t *value) {
  const char *section = scalar(key);
  if (strcmp(section, "include") == 0) return GD_OK; /* done already */
  const gd_config_key *whole = gd_config_find(section);
  if (whole && !strchr(section, '.')) return read_value(r, section, key, value);
  if (!is_section(section)) return unknown_section(r, key, value);
  if (value->type == YAML_SCALAR_NODE && gd_config_is_null(scalar(value))) return GD_OK; /* "model:" with nothing below */
  if (value->type != YAML_MAPPING_NODE) {
    return gd_fail_user(GD_USAGE, "%s:%d: %s: found %s, expected a section (keys below it, indented)", r->name, line_of(key),
                        section, kind_of(value));
  }
  GD_TRY(check_duplicates(r, value, section));
  for (yaml_node_pair_t *p = value->data.mapping.pairs.start; p < value->data.mapping.pairs.top; p++) {
    const yaml_node_t *member = node_at(r, p->key);
    char name[NAME_BYTES * 2];
    snprintf(name, sizeof name, "%s.%s", section, scalar(member));
    GD_TRY(read_value(r, name, member, node_at(r, p->value)));
  }
  return GD_OK;
}

static gd_status include_one(reader *r, const yaml_node_t *node) {
  if (node->type != YAML_SCALAR_NODE || !*scalar(node)) {
    return gd_fail_user(GD_USAGE, "%s:%d: include: found %s, expected a file name or a list of them", r->name, line_of(node),
                        node->type == YAML_SCALAR_NODE ? "no value" : kind_of(node));
  }
  if (r->target->depth >= INCLUDE_DEPTH) {
    return gd_fail_user(GD_USAGE, "%s:%d: include: more than %d files deep (does a file include itself?)", r->name,
                        line_of(node), INCLUDE_DEPTH);
  }
  /* Eight files that include the next one 16 times each would be read four thousand million times. */
  if (++r->target->files > INCLUDE_ALL)
    return gd_fail_user(GD_USAGE, "%s:%d: include: more than %d files in all", r->name, line_of(node), INCLUDE_ALL);
  char path[2 * GD_PATH_BYTES];
  snprintf(path, sizeof path, "%s:%d: include", r->name, line_of(node));
  GD_TRY(check_text(node, path));
  const char *slash = strrchr(r->name, '/');
  bool relative = *scalar(node) != '/' && slash;
  int length = snprintf(path, sizeof path, "%.*s%s", relative ? (int)(slash - r->name) + 1 : 0, r->name, scalar(node));
  if (length < 0 || (size_t)length >= GD_PATH_BYTES) {
    return gd_fail_user(GD_USAGE, "%s:%d: include: the file name is too long", r->name, line_of(node));
  }
  r->target->depth++;
  gd_status status = gd_config_yaml_file(path, r->target);
  r->target->depth--;
  return status == GD_OK ? GD_OK : gd_error_context(status, "included by %s:%d", r->name, line_of(node));
}

static gd_status read_includes(reader *r, const yaml_node_t *root) {
  for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
    if (strcmp(scalar(node_at(r, p->key)), "include") != 0) continue;
    const yaml_node_t *value = node_at(r, p->value);
    if (value->type != YAML_SEQUENCE_NODE) return include_one(r, value);
    if (value->data.sequence.items.top - value->data.sequence.items.start > INCLUDE_FILES) {
      return gd_fail_user(GD_USAGE, "%s:%d: include: expected at most %d files", r->name, line_of(value), INCLUDE_FILES);
    }
    for (yaml_node_item_t *item = value->data.sequence.items.start; item < value->data.sequence.items.top; item++) {
      GD_TRY(include_one(r, node_at(r, *item)));
    }
  }
  return GD_OK;
}

static gd_status read_root(reader *r) {
  const yaml_node_t *root = yaml_document_get_root_node(&r->document);
  if (!root || (root->type == YAML_SCALAR_NODE && gd_config_is_null(scalar(root)))) {
    return gd_fail_user(GD_USAGE, "%s: the file is empty, expected sections (run, model, data, ...)", r->name);
  }
  if (root->type != YAML_MAPPING_NODE) {
    return gd_fail_user(GD_USAGE, "%s:%d: found %s, expected sections (run, model, data, ...)", r->name, line_of(root),
                        kind_of(root));
  }
  GD_TRY(check_duplicates(r, root, ""));
  GD_TRY(read_includes(r, root));
  for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
    GD_TRY(read_section(r, node_at(r, p->key), node_at(r, p->value)));
  }
  return GD_OK;
}

static gd_status syntax_error(const char *name, const yaml_parser_t *parser, const char *text, size_t bytes) {
  if (parser->error == YAML_MEMORY_ERROR) return gd_fail(GD_NO_MEMORY, "%s: out of memory", name);
  size_t line = parser->problem_mark.line;
  if (parser->error == YAML_READER_ERROR) {
    line = 0;
    for (size_t i = 0; i < parser->problem_offset && i < bytes; i++) line += text[i] == '\n';
  }
  const char *problem = parser->problem ? parser->problem : "not YAML";
  /* The library calls a tab "a character that cannot start any token". */
  const char *start = text;
  for (size_t i = 0; i < line && start; i++) {
    start = memchr(start, '\n', bytes - (size_t)(start - text));
    if (start) start++;
  }
  size_t left = start ? bytes - (size_t)(start - text) : 0;
  for (size_t i = 0; i < left && (start[i] == ' ' || start[i] == '\t'); i++) {
    if (start[i] == '\t') {
      return gd_fail_user(GD_USAGE, "%s:%zu: found a tab, expected spaces (YAML indents with spaces only)", name, line + 1);
    }
  }
  return gd_fail_user(GD_USAGE, "%s:%zu: not valid YAML: %s", name, line + 1, problem);
}

gd_status gd_config_yaml_text(const char *name, const char *text, size_t bytes, gd_config_target *target) {
  yaml_parser_t parser;
  if (!yaml_parser_initialize(&parser)) return gd_fail(GD_NO_MEMORY, "%s: out of memory", name);
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
  reader r = {.name = name, .target = target};
  gd_status status;
  if (!yaml_parser_load(&parser, &r.document)) {
    status = syntax_error(name, &parser, text, bytes);
    yaml_parser_delete(&parser);
    return status;
  }
  status = read_root(&r);
  yaml_document_delete(&r.document);
  if (status == GD_OK) {
    if (!yaml_parser_load(&parser, &r.document)) {
      status = syntax_error(name, &parser, text, bytes);
    } else {
      const yaml_node_t *second = yaml_document_get_root_node(&r.document);
      if (second) status = gd_fail_user(GD_USAGE, "%s:%d: found a second document, expected one", name, line_of(second));
      yaml_document_delete(&r.document);
    }
  }
  yaml_parser_delete(&parser);
  return status;
}

gd_status gd_config_yaml_file(const char *path, gd_config_target *target) {
  struct stat info;
  if (stat(path, &info) != 0)
    return gd_fail_user(gd_fault_named(errno), "%s: cannot read the run file: %s", path, strerror(errno));
  if (S_ISDIR(info.st_mode)) return gd_fail_user(GD_USAGE, "%s: found a folder, expected a run file", path);
  FILE *file = fopen(path, "rb");
  if (!file) return gd_fail_user(gd_fault_named(errno), "%s: cannot read the run file: %s", path, strerror(errno));
  char *text = malloc(file_limit_bytes + 1);
  if (!text) {
    fclose(file);
    return gd_fail(GD_NO_MEMORY, "%s: out of memory", path);
  }
  size_t bytes = fread(text, 1, file_limit_bytes + 1, file);
  gd_status status;
  if (ferror(file)) {
    status = gd_fail(GD_IO, "%s: read: %s", path, strerror(errno));
  } else if (bytes > file_limit_bytes) {
    status = gd_fail_user(GD_USAGE, "%s: found more than %zu bytes, expected a run file", path, file_limit_bytes);
  } else {
    status = gd_config_yaml_text(path, text, bytes, target);
  }
  fclose(file);
  free(text);
  return status;
}
