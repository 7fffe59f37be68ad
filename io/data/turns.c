/* turns.c - the turns of a talk to ids and targets. */
#include <string.h>

#include "io/data/template.h"

/* What is being written. Ordinary text waits in `run` until a special token or a border ends it, so that the table's texts and
 * those of the turns are merged as the one text that they are. */
typedef struct writing {
  gd_tokenizer *tokenizer;
  gd_bytes run;
  gd_ids *ids;
} writing;

static gd_status flush(writing *at) {
  if (!at->run.count) return GD_OK;
  gd_status status = gd_tokenizer_encode(at->tokenizer, at->run.bytes, at->run.count, false, at->ids);
  at->run.count = 0;
  return status;
}

/* A text of the table: its special tokens are tokens. */
static gd_status put_literal(writing *at, const char *text) {
  size_t count = strlen(text);
  while (count) {
    size_t place, length;
    int32_t id = gd_tokenizer_find_special(at->tokenizer, text, count, &place, &length);
    if (id < 0) return gd_bytes_append(&at->run, text, count);
    GD_TRY(gd_bytes_append(&at->run, text, place));
    GD_TRY(flush(at));
    GD_TRY(gd_ids_append(at->ids, &id, 1));
    text += place + length;
    count -= place + length;
  }
  return GD_OK;
}

/* Whether prompt[first ..] and the response behind it would have other ids as one text. run: the prompt's last ordinary text,
 * which begins at ids[first]. */
static gd_status compare_joined(writing *at, const gd_bytes *run, size_t first, const gd_turn *turn, bool *differs) {
  gd_bytes text = {0};
  gd_ids joined = {0};
  gd_status status = gd_bytes_append(&text, run->bytes, run->count);
  if (status == GD_OK) status = gd_bytes_append(&text, turn->text, turn->count);
  if (status == GD_OK) status = gd_tokenizer_encode(at->tokenizer, text.bytes, text.count, false, &joined);
  if (status == GD_OK && (joined.count != at->ids->count - first ||
                          memcmp(joined.ids, at->ids->ids + first, joined.count * sizeof *joined.ids) != 0))
    *differs = true;
  gd_bytes_free(&text);
  gd_ids_free(&joined);
  return status;
}

/* A response: the text before it is ended, then its own ids and the end token. */
static gd_status put_response(writing *at, const gd_turn *turn, int32_t end, gd_bytes *targets, bool *differs) {
  gd_bytes run = {0};
  size_t first = at->ids->count;
  gd_status status = gd_bytes_append(&run, at->run.bytes ? at->run.bytes : "", at->run.count);
  if (status == GD_OK) status = flush(at);
  size_t begin = at->ids->count;
  if (status == GD_OK) status = gd_tokenizer_encode(at->tokenizer, turn->text, turn->count, false, at->ids);
  if (status == GD_OK && turn->learnt && run.count) status = compare_joined(at, &run, first, turn, differs);
  if (status == GD_OK) status = gd_ids_append(at->ids, &end, 1);
  size_t behind = at->ids->count;
  if (status == GD_OK) status = gd_bytes_reserve(targets, behind - targets->count + 1);
  if (status == GD_OK) {
    memset(targets->bytes + targets->count, 0, begin - targets->count);
    memset(targets->bytes + begin, turn->learnt, behind - begin);
    targets->count = behind;
  }
  gd_bytes_free(&run);
  return status;
}

static gd_status put_turns(const gd_template *layout, writing *at, int32_t end, const gd_turn *turns, int32_t count,
                           gd_bytes *targets, bool *differs) {
  const size_t first = at->ids->count;
  const int32_t bos = gd_tokenizer_bos(at->tokenizer);
  if (bos >= 0) GD_TRY(gd_ids_append(at->ids, &bos, 1));
  GD_TRY(put_literal(at, layout->begin));
  bool twice = bos >= 0 && at->ids->count > first + 1 && at->ids->ids[first + 1] == bos;
  if (twice) memmove(at->ids->ids + first, at->ids->ids + first + 1, (--at->ids->count - first) * sizeof bos);
  for (int32_t i = 0; i < count; i++) {
    const gd_turn *turn = &turns[i];
    bool asked = turn->role == GD_TURN_ASSISTANT && i == count - 1;
    GD_TRY(put_literal(at, asked ? layout->generation : layout->before[turn->role]));
    if (turn->role == GD_TURN_ASSISTANT)
      GD_TRY(put_response(at, turn, end, targets, differs));
    else
      GD_TRY(gd_bytes_append(&at->run, turn->text, turn->count));
    if (!asked) GD_TRY(put_literal(at, layout->after[turn->role])); /* behind the last end token nothing is read */
  }
  return flush(at);
}

gd_status gd_template_encode(const gd_template *layout, gd_tokenizer *tokenizer, int32_t end, const gd_turn *turns,
                             int32_t count, gd_ids *ids, gd_bytes *targets, bool *differs) {
  writing at = {.tokenizer = tokenizer, .ids = ids};
  *differs = false;
  gd_status status = put_turns(layout, &at, end, turns, count, targets, differs);
  gd_bytes_free(&at.run);
  return status;
}
