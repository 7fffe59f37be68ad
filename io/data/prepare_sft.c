/* prepare_sft.c - rows to talks, and talks to the examples that are learnt from. */
#include <stdlib.h>
#include <string.h>

#include "io/data/prepare_task.h"

/* The talk of one row. Texts lie in `text`; where they begin is known once it has stopped growing. */
typedef struct talk {
  gd_turn *turns;
  size_t *begins;
  int32_t count, capacity;
  gd_bytes text;
} talk;

static void close_talk(talk *at) {
  free(at->turns);
  free(at->begins);
  gd_bytes_free(&at->text);
}

/* A turn whose text is appended to at->text behind this call, up to end_turn. */
static gd_status begin_turn(talk *at, gd_turn_role role, bool learnt) {
  if (at->count == at->capacity) {
    int32_t capacity = 2 * at->capacity + 4;
    gd_turn *turns = realloc(at->turns, (size_t)capacity * sizeof *turns);
    if (turns) at->turns = turns;
    size_t *begins = realloc(at->begins, (size_t)capacity * sizeof *begins);
    if (begins) at->begins = begins;
    if (!turns || !begins) return gd_fail(GD_NO_MEMORY, "no memory for %d turns", capacity);
    at->capacity = capacity;
  }
  at->begins[at->count] = at->text.count;
  at->turns[at->count] = (gd_turn){.role = role, .learnt = learnt};
  return gd_bytes_append(&at->text, "", 0);
}

static void end_turn(talk *at) {
  at->turns[at->count].count = at->text.count - at->begins[at->count];
  at->count++;
}

/* Blank texts say nothing. */
static bool is_blank(const char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!bytes[i] || !strchr(" \t\r\n", bytes[i])) return false;
  return true;
}

static gd_status add_column(const gd_prepare_rows *rows, int64_t row, gd_column_role column, talk *at) {
  int32_t k = gd_prepare_column(rows->prepare, column);
  if (k < 0) return GD_OK;
  gd_corpus_value value = gd_table_value(&rows->table, row, k);
  return gd_bytes_append(&at->text, value.bytes, value.count);
}

/* Prompt and response, or instruction, input and output. */
static gd_status read_columns(const gd_prepare_rows *rows, int64_t row, talk *at) {
  const gd_template *layout = rows->task->layout;
  int32_t system = gd_prepare_column(rows->prepare, GD_ROLE_SYSTEM), input = gd_prepare_column(rows->prepare, GD_ROLE_INPUT);
  gd_corpus_value said = system >= 0 ? gd_table_value(&rows->table, row, system) : (gd_corpus_value){"", 0};
  gd_corpus_value given = input >= 0 ? gd_table_value(&rows->table, row, input) : (gd_corpus_value){"", 0};
  if (!is_blank(said.bytes, said.count)) {
    GD_TRY(begin_turn(at, GD_TURN_SYSTEM, false));
    GD_TRY(gd_bytes_append(&at->text, said.bytes, said.count));
    end_turn(at);
  }
  GD_TRY(begin_turn(at, GD_TURN_USER, false));
  GD_TRY(add_column(rows, row, GD_ROLE_PROMPT, at));
  GD_TRY(add_column(rows, row, GD_ROLE_INSTRUCTION, at));
  if (!is_blank(given.bytes, given.count)) {
    GD_TRY(gd_bytes_append(&at->text, layout->input[0], strlen(layout->input[0])));
    GD_TRY(gd_bytes_append(&at->text, given.bytes, given.count));
    GD_TRY(gd_bytes_append(&at->text, layout->input[1], strlen(layout->input[1])));
  }
  end_turn(at);
  GD_TRY(begin_turn(at, GD_TURN_ASSISTANT, true));
  GD_TRY(add_column(rows, row, GD_ROLE_RESPONSE, at));
  GD_TRY(add_column(rows, row, GD_ROLE_OUTPUT, at));
  end_turn(at);
  return GD_OK;
}

/* ---- messages ---- */

static gd_status bad_turn(const gd_prepare_rows *rows, int64_t row, int32_t turn, const char *text) {
  return gd_fail_user(GD_BAD_DATA, "%s:%lld: turn %d of the messages %s", rows->table.path[row],
                      (long long)rows->table.line[row], turn + 1, text);
}

static gd_status read_turn(const gd_prepare_rows *rows, int64_t row, const gd_json *node, talk *at) {
  static const char *const roles[GD_TURN_ROLES] = {"system", "user", "assistant"};
  const gd_json *content = gd_json_get(node, "content"), *weight = gd_json_get(node, "weight");
  const char *role = gd_json_string(gd_json_get(node, "role"));
  double value = 1;
  int r = 0;
  while (role && r < GD_TURN_ROLES && strcmp(role, roles[r]) != 0) r++;
  if (!role || r == GD_TURN_ROLES) return bad_turn(rows, row, at->count, "has no role system, user or assistant");
  if (!gd_json_string(content)) return bad_turn(rows, row, at->count, "has no text as its content");
  if (weight && (!gd_json_number(weight, &value) || (value != 0 && value != 1)))
    return bad_turn(rows, row, at->count, "has another weight than 0 or 1");
  GD_TRY(begin_turn(at, (gd_turn_role)r, r == GD_TURN_ASSISTANT && value > 0));
  GD_TRY(gd_json_text(content, &at->text));
  end_turn(at);
  return GD_OK;
}

static gd_status read_messages(const gd_prepare_rows *rows, int64_t row, int32_t column, talk *at) {
  gd_corpus_value value = gd_table_value(&rows->table, row, column);
  const char *path = rows->table.path[row];
  gd_json *root = NULL;
  gd_status status = gd_json_parse(value.bytes, value.count, path, rows->table.line[row], &root);
  if (status == GD_OK && !gd_json_is_array(root))
    status = gd_fail_user(GD_BAD_DATA, "%s:%lld: the messages are no list of turns", path, (long long)rows->table.line[row]);
  for (const gd_json *node = status == GD_OK ? gd_json_first(root) : NULL; status == GD_OK && node; node = gd_json_next(node))
    status = read_turn(rows, row, node, at);
  gd_json_free(root);
  return status;
}

/* ---- a talk ---- */

/* The talk of a row, up to its last learnt response: nobody learns from what follows. *empty: a turn says nothing. */
static gd_status read_talk(const gd_prepare_rows *rows, int64_t row, talk *at, bool *empty) {
  int32_t messages = gd_prepare_column(rows->prepare, GD_ROLE_MESSAGES), last = -1;
  at->count = 0;
  at->text.count = 0;
  *empty = false;
  GD_TRY(messages >= 0 ? read_messages(rows, row, messages, at) : read_columns(rows, row, at));
  for (int32_t i = 0; i < at->count; i++) {
    at->turns[i].text = at->text.bytes + at->begins[i];
    if (at->turns[i].learnt) last = i;
    if (!is_blank(at->turns[i].text, at->turns[i].count) || *empty) continue;
    *empty = true;
    if (!rows->prepare->corpus.drop_empty)
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: turn %d is empty; --empty drop leaves out and counts such rows",
                          rows->table.path[row], (long long)rows->table.line[row], i + 1);
  }
  if (*empty) return GD_OK;
  if (last < 0)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: no turn of the assistant to learn from", rows->table.path[row],
                        (long long)rows->table.line[row]);
  at->count = last + 1;
  return GD_OK;
}

/* What is asked: all before the last response. Rows that ask the same belong to one split. */
static gd_status make_groups(gd_prepare_rows *rows, char *empty) {
  const int64_t count = rows->table.count;
  gd_bytes asked = {0};
  size_t *ends = malloc((size_t)count * sizeof *ends);
  talk at = {0};
  gd_status status = ends ? gd_bytes_append(&asked, "", 0) : gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)count);
  for (int64_t row = 0; status == GD_OK && row < count; row++) {
    bool nothing;
    GD_TRY_GOTO(status, done, read_talk(rows, row, &at, &nothing));
    empty[row] = nothing;
    for (int32_t i = 0; status == GD_OK && i + 1 < at.count; i++) {
      status = gd_bytes_printf(&asked, "%d", (int)at.turns[i].role);
      if (status == GD_OK) status = gd_bytes_append(&asked, at.turns[i].text, at.turns[i].count);
      if (status == GD_OK) status = gd_bytes_append(&asked, "", 1);
    }
    ends[row] = asked.count;
  }
  for (int64_t row = 0; status == GD_OK && row < count; row++) {
    size_t begin = row ? ends[row - 1] : 0;
    rows->keys[row] = (gd_corpus_value){asked.bytes + begin, ends[row] - begin};
  }
  if (status == GD_OK) status = gd_table_group(rows->keys, count, rows->group);
done:
  close_talk(&at);
  gd_bytes_free(&asked);
  free(ends);
  return status;
}

/* ---- examples ---- */

/* Leaves out the oldest turn that is no system's, and what follows up to the next of the user; then the system's. False: there
 * is nothing to leave out, one turn before the response must stay. */
static bool drop_oldest(talk *at) {
  int32_t first = 0, next;
  while (first < at->count && at->turns[first].role == GD_TURN_SYSTEM) first++;
  next = first + 1;
  while (next < at->count && at->turns[next].role != GD_TURN_USER) next++;
  if (next >= at->count && first > 0) {
    next = first;
    first--;
  }
  if (next >= at->count || first + at->count - next < 2) return false;
  memmove(at->turns + first, at->turns + next, (size_t)(at->count - next) * sizeof *at->turns);
  at->count -= next - first;
  return true;
}

static gd_status encode_talk(const gd_prepare_rows *rows, int64_t row, int32_t end, const talk *at, gd_ids *ids,
                             gd_bytes *targets, bool *differs) {
  ids->count = targets->count = 0;
  gd_status status =
      gd_template_encode(rows->task->layout, rows->prepare->tokenizer, end, at->turns, at->count, ids, targets, differs);
  if (status != GD_OK) return gd_error_context(status, "in %s:%lld", rows->table.path[row], (long long)rows->table.line[row]);
  if (rows->task->loss_all) memset(targets->bytes + 1, 1, targets->count - 1); /* nothing comes before the first */
  return GD_OK;
}

static gd_status add_example(gd_prepare_rows *rows, int64_t row, int32_t end, talk *at, gd_ids *ids, gd_bytes *targets) {
  const gd_prepare_task *task = rows->task;
  const size_t most = task->max_tokens ? (size_t)task->max_tokens : INT32_MAX;
  bool differs, cut = false;
  GD_TRY(encode_talk(rows, row, end, at, ids, targets, &differs));
  if (ids->count > most && task->too_long == GD_LONG_REFUSE)
    return gd_fail_user(GD_BAD_DATA, "%s:%lld: the example has %zu tokens, expected at most %zu; --long drop or cut goes on",
                        rows->table.path[row], (long long)rows->table.line[row], ids->count, most);
  while (ids->count > most && task->too_long == GD_LONG_CUT && drop_oldest(at)) {
    cut = true;
    GD_TRY(encode_talk(rows, row, end, at, ids, targets, &differs));
  }
  if (ids->count > most) {
    rows->report->dropped_long++;
    return GD_OK;
  }
  rows->report->cut += cut;
  rows->report->differs += differs;
  for (size_t i = 0; i < targets->count; i++) rows->report->targets[rows->table.split[row]] += targets->bytes[i];
  GD_TRY(gd_ids_append(&rows->examples.ids, ids->ids, ids->count));
  GD_TRY(gd_bytes_append(&rows->examples.targets, targets->bytes, targets->count));
  return gd_examples_end(&rows->examples, rows->table.split[row], NULL);
}

static gd_status encode_talks(gd_prepare_rows *rows, int32_t end, const char *empty) {
  talk at = {0};
  gd_ids ids = {0};
  gd_bytes targets = {0};
  gd_status status = GD_OK;
  for (int64_t row = 0; status == GD_OK && row < rows->table.count; row++) {
    bool nothing;
    gd_session_progress(rows->prepare->session, "encode", row);
    rows->report->dropped_empty += empty[row];
    if (empty[row] || rows->table.split[row] < 0) continue;
    status = read_talk(rows, row, &at, &nothing);
    if (status == GD_OK) status = add_example(rows, row, end, &at, &ids, &targets);
    gd_corpus_value last = gd_table_value(&rows->table, row, rows->table.columns - 1);
    if (status == GD_OK) gd_prepare_tell(rows->prepare, last.bytes + last.count - rows->table.text.bytes);
  }
  close_talk(&at);
  gd_ids_free(&ids);
  gd_bytes_free(&targets);
  return status;
}

gd_status gd_prepare_talks(gd_prepare_rows *rows) {
  gd_bytes table = {0};
  int32_t end;
  if (!rows->prepare->tokenizer)
    return gd_fail_user(GD_USAGE, "tokenizer chars: has no token that ends a response, expected another one");
  GD_TRY(gd_template_check(rows->task->layout, rows->prepare->tokenizer, &end));
  rows->made.kind = GD_TASK_SFT;
  gd_status status = gd_template_write(rows->task->layout, &table);
  rows->made.layout = table.bytes;
  GD_TRY(status);
  char *empty = calloc((size_t)rows->table.count, 1);
  status = empty ? make_groups(rows, empty) : gd_fail(GD_NO_MEMORY, "no memory for %lld rows", (long long)rows->table.count);
  if (status == GD_OK) status = gd_prepare_deal(rows);
  if (status == GD_OK) status = encode_talks(rows, end, empty);
  free(empty);
  return status;
}
