/* json.h - reading JSON text, and writing strings of it. A parsed text is a tree of nodes owned by its root. Local. */
#ifndef GD_IO_BASE_JSON_H
#define GD_IO_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/base/files.h"
#include "shard/base/status.h"

typedef struct gd_json gd_json;

/* Parses text[count]. `name` and the line (counted from first_line) go into the text of a fault: GD_BAD_DATA for anything that
 * is no JSON, and for more than 2^24 values (80 bytes of memory each). */
GD_CHECKED gd_status gd_json_parse(const char *text, size_t count, const char *name, int64_t first_line, gd_json **out);

/* Reads and parses a file of at most `limit` bytes. GD_IO, GD_BAD_DATA. */
GD_CHECKED gd_status gd_json_read(const char *path, size_t limit, gd_json **out);
void gd_json_free(gd_json *root);

/* NULL where `object` is NULL, no object, or lacks the key. */
const gd_json *gd_json_get(const gd_json *object, const char *key);

/* Children of an array or object in file order; NULL at the end. The key of an object's child. */
const gd_json *gd_json_first(const gd_json *node);
const gd_json *gd_json_next(const gd_json *node);
const char *gd_json_key(const gd_json *node);

bool gd_json_is_object(const gd_json *node);
bool gd_json_is_array(const gd_json *node);
bool gd_json_is_null(const gd_json *node);       /* null itself, not a node that is not there */
const char *gd_json_string(const gd_json *node); /* NULL: no string */
/* Appends the bytes of a string. A string that may hold U+0000 must be read with this: gd_json_string shows that as C0 80. */
GD_CHECKED gd_status gd_json_text(const gd_json *node, gd_bytes *out);
bool gd_json_integer(const gd_json *node, int64_t *out); /* false: no whole number below 2^53 */
bool gd_json_number(const gd_json *node, double *out);
bool gd_json_boolean(const gd_json *node, bool *out);

/* Appends the node as JSON text without white space between its parts. */
GD_CHECKED gd_status gd_json_print(const gd_json *node, gd_bytes *out);

/* Whether text[count], which gd_json_parse took, is JSON by the letter: the parser also takes bare control characters and
 * numbers such as 01 and 1. What is copied as it is written must be. text ends with a zero byte. */
bool gd_json_strict(const char *text, size_t count);

/* Appends the members of an object that are wanted, a comma between them, as they are written in the text that it was parsed
 * from: numbers have all their digits. NULL wants all. */
GD_CHECKED gd_status gd_json_copy_members(const gd_json *object, const char *text, bool (*wanted)(const char *key),
                                          gd_bytes *out);

/* Appends text[count] in quotes, escaped; bytes that are not UTF-8 become U+FFFD. */
GD_CHECKED gd_status gd_json_quote(gd_bytes *out, const char *text, size_t count);

#endif
