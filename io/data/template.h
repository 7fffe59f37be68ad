/* template.h - how the turns of a talk become one text: a table, not a program. All local.
 *
 *   begin, then for each turn BEFORE text AFTER of its role; before the last response `generation` stands in place of the
 *   assistant's BEFORE, since that is what a model sees that is asked for one; behind a response comes the end token, then
 * AFTER.
 *
 * The table's texts may name special tokens of the tokenizer; what stands in a turn is always ordinary text. */
#ifndef GD_IO_DATA_TEMPLATE_H
#define GD_IO_DATA_TEMPLATE_H

#include "io/base/json.h"
#include "io/tokenizer/tokenizer.h"

typedef enum gd_turn_role { GD_TURN_SYSTEM, GD_TURN_USER, GD_TURN_ASSISTANT } gd_turn_role;
enum { GD_TURN_ROLES = 3 };

typedef struct gd_turn {
  gd_turn_role role;
  const char *text; /* [count] UTF-8 */
  size_t count;
  bool learnt; /* assistant: it is a target */
} gd_turn;

typedef struct gd_template {
  char *name; /* "plain", "alpaca", "chatml", "llama3", or the file's */
  char *begin, *before[GD_TURN_ROLES], *after[GD_TURN_ROLES];
  char *input[2]; /* around the input of an instruction, inside the user's turn */
  char *end;      /* the text of a token; "": the tokenizer's end of text */
  char *generation;
} gd_template;

/* One of the four by name, or a JSON file. GD_USAGE for a name that is neither, GD_BAD_DATA for a file that is no such table.
 * gd_template_free in any case. */
GD_CHECKED gd_status gd_template_open(const char *name, gd_template *out);
/* The same of the table as JSON text; `where` names it in faults. */
GD_CHECKED gd_status gd_template_parse(const char *text, const char *where, gd_template *out);
void gd_template_free(gd_template *layout);

/* The names of the four, from index 0 on; NULL behind the last. */
const char *gd_template_known(int32_t index);

/* Appends the table as one line of JSON, as a file and index.json hold it. */
GD_CHECKED gd_status gd_template_write(const gd_template *layout, gd_bytes *out);

/* Whether the tokenizer has the tokens that the table names (all of the form <|...|>, and the end): GD_USAGE naming the first
 * that it lacks. *end = the id of the end token. */
GD_CHECKED gd_status gd_template_check(const gd_template *layout, const gd_tokenizer *tokenizer, int32_t *end);

/* Appends the ids of turns[count], begin-of-text once where the tokenizer has it, and a byte an id: 1 for those of a learnt
 * response and its end token. Prompt and response are encoded apart, as generation does it; *differs: encoded as one text some
 * learnt response would have other ids. end: of gd_template_check. GD_BAD_DATA: a character has no id. */
GD_CHECKED gd_status gd_template_encode(const gd_template *layout, gd_tokenizer *tokenizer, int32_t end, const gd_turn *turns,
                                        int32_t count, gd_ids *ids, gd_bytes *targets, bool *differs);

#endif
