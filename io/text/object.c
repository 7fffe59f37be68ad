/* object.c - the columns of a JSON object, and where a person says which they are. */
#include <string.h>

#include "io/base/json.h"
#include "io/text/internal.h"

const char *gd_corpus_column_options(const gd_corpus *corpus) {
  return corpus->options.column_count ? "--columns" : "--text-field and --text-column";
}

static gd_status missing_field(gd_corpus *corpus, const gd_json *root, const char *field) {
  gd_bytes names = {0};
  gd_status status = gd_bytes_append(&names, "", 0);
  for (const gd_json *node = gd_json_first(root); status == GD_OK && node && names.count < 200; node = gd_json_next(node))
    status = gd_bytes_printf(&names, "%s\"%.60s\"", names.count ? ", " : "", gd_json_key(node));
  if (status == GD_OK)
    status = gd_fail_user(GD_BAD_DATA, "%s:%lld: no field \"%s\" (there %s %s), see %s", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), field, names.count ? "are" : "is",
                          names.count ? names.bytes : "none", corpus->options.column_count ? "--columns" : "--text-field");
  gd_bytes_free(&names);
  return status;
}

static gd_status read_field(gd_corpus *corpus, const gd_json *root, int32_t k) {
  const gd_corpus_column *column = &corpus->columns[k];
  const gd_json *node = NULL;
  for (const gd_json *child = gd_json_first(root); child; child = gd_json_next(child)) {
    if (strcmp(gd_json_key(child), column->name) != 0) continue;
    if (node)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: the field \"%s\" stands there twice", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), column->name);
    node = child;
  }
  if (!node && !column->optional) return missing_field(corpus, root, column->name);
  size_t begin = corpus->fields.count;
  double number;
  bool truth, scalar = gd_json_number(node, &number) || gd_json_boolean(node, &truth);
  if (gd_json_string(node))
    GD_TRY(column->kind == GD_COLUMN_JSON ? gd_json_print(node, &corpus->fields) : gd_json_text(node, &corpus->fields));
  else if (node && (column->kind == GD_COLUMN_JSON || (scalar && column->kind == GD_COLUMN_SCALAR)))
    GD_TRY(gd_json_print(node, &corpus->fields));
  else if (node && !(column->optional && gd_json_is_null(node)))
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: the field \"%s\" is no text", corpus->path, (long long)gd_corpus_line(corpus, 0),
                        column->name);
  corpus->field[k].begin = begin;
  corpus->field[k].count = corpus->fields.count - begin;
  return GD_OK;
}

gd_status gd_corpus_read_object(gd_corpus *corpus, const char *bytes, size_t count) {
  gd_bytes fixed = {0};
  gd_json *root = NULL;
  corpus->fields.count = 0;
  gd_status status = gd_corpus_check_utf8(corpus, bytes, count, 0, &fixed);
  bool invalid = status != GD_OK;
  if (fixed.count) {
    bytes = fixed.bytes;
    count = fixed.count;
  }
  if (!invalid) status = gd_json_parse(bytes, count, corpus->path, 1, &root);
  /* The line is counted only for a fault: a first try may fail, the second names the place. */
  if (status == GD_BAD_DATA && !invalid) status = gd_json_parse(bytes, count, corpus->path, gd_corpus_line(corpus, 0), &root);
  if (status == GD_OK && !gd_json_is_object(root))
    status = gd_fail_user(GD_BAD_DATA, "%s:%lld: expected a JSON object with the field \"%s\"", corpus->path,
                          (long long)gd_corpus_line(corpus, 0), corpus->columns[0].name);
  for (int32_t k = 0; status == GD_OK && k < corpus->column_count; k++) status = read_field(corpus, root, k);
  gd_json_free(root);
  gd_bytes_free(&fixed);
  return status;
}
