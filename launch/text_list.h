/* text_list.h - texts of a file, one a line or one a JSON document. Local. */
#ifndef GD_LAUNCH_TEXT_LIST_H
#define GD_LAUNCH_TEXT_LIST_H

#include "io/base/files.h"

/* Records of one or more texts, valid UTF-8 without zeros. All zeros is empty. */
typedef struct gd_text_list {
  const char *path;
  gd_bytes bytes;   /* the texts, each with its zero */
  gd_bytes texts;   /* size_t: where each begins */
  gd_bytes records; /* gd_text_record */
  int64_t count;    /* records */
} gd_text_list;

typedef struct gd_text_record {
  int64_t line; /* of the file, from 1 */
  int64_t first;
  int32_t count; /* at least 1 */
} gd_text_record;

/* A file whose name says JSON Lines, or any with a `field` (NULL: "text"), holds strings, or objects with that field: a string,
 * or, where `several`, also a list of them. Any other holds a text a line. "-" is standard input. option: what names the field
 * on a command line. GD_USAGE: no such file. GD_BAD_DATA with file and line; no text at all. gd_text_list_free in any case. */
GD_CHECKED gd_status gd_text_list_read(const char *path, const char *field, const char *option, bool several,
                                       gd_text_list *out);
void gd_text_list_free(gd_text_list *list);

const gd_text_record *gd_text_list_record(const gd_text_list *list, int64_t record);
/* Text number `text` of the record. */
const char *gd_text_list_text(const gd_text_list *list, int64_t record, int32_t text);

#endif
