/* generate_chat.c - --chat: turns in a terminal. A line is a turn; the model answers as tokens come. Ctrl-C ends an answer,
 * which stays as far as it came, and between answers the talk, as the end of the input does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/utf8.h"
#include "launch/generate.h"
#include "launch/line_input.h"
#include "launch/signals.h"
#include "shard/base/log.h"

typedef struct talk {
  gd_turn *turns; /* their texts are the talk's */
  int32_t count, capacity;
  int32_t kept; /* the system's turn, which is not forgotten: 1 or 0 */
} talk;

static gd_status add_turn(talk *t, gd_turn_role role, const char *text, size_t count) {
  if (t->count == t->capacity) {
    int32_t capacity = t->capacity ? 2 * t->capacity : 16;
    gd_turn *turns = realloc(t->turns, (size_t)capacity * sizeof *turns);
    if (!turns) return gd_fail(GD_NO_MEMORY, "no memory for %d turns", capacity);
    t->turns = turns;
    t->capacity = capacity;
  }
  char *copy = malloc(count + 1);
  if (!copy) return gd_fail(GD_NO_MEMORY, "no memory for a turn of %zu bytes", count);
  memcpy(copy, text, count);
  copy[count] = 0;
  t->turns[t->count++] = (gd_turn){.role = role, .text = copy, .count = count};
  return GD_OK;
}

/* Forgets turns [first, first + count). */
static void forget(talk *t, int32_t first, int32_t count) {
  if (count == 0) return;
  for (int32_t i = first; i < first + count; i++) free((char *)(uintptr_t)t->turns[i].text);
  memmove(t->turns + first, t->turns + first + count, (size_t)(t->count - first - count) * sizeof *t->turns);
  t->count -= count;
}

/* The ids of the talk so far, its oldest turns left out where they leave no room for an answer. */
static gd_status encode_talk(gd_generate *g, talk *t, gd_ids *ids) {
  int32_t forgotten = 0, capacity = g->model.model.cache.capacity;
  while (true) {
    ids->count = 0;
    GD_TRY(gd_prompt_of_turns(g, t->turns, t->count, ids));
    /* An eighth of the context, at least, is for the answer. */
    if ((int64_t)ids->count <= capacity - capacity / 8 || t->count - t->kept < 3) break;
    forget(t, t->kept, 2);
    forgotten += 2;
  }
  if (forgotten && g->first)
    gd_log(GD_LOG_INFO, "the oldest %d turns no longer fit the context of %d tokens", forgotten, capacity);
  return gd_generator_check(&g->model.model, ids->ids, (int64_t)ids->count);
}

/* Prints what is settled of an answer, but for the first bytes of a character. */
static void print_settled(const gd_generate *g, const gd_written *w, size_t *printed) {
  size_t end = w->settled;
  if (end > *printed && !w->stopped_by) end -= gd_utf8_unfinished(w->text.bytes + *printed, end - *printed);
  if (end <= *printed) return;
  if (g->first) gd_print_text(w->text.bytes + *printed, end - *printed);
  *printed = end;
}

static gd_status answer(gd_generate *g, talk *t, gd_written *w) {
  gd_request request = {.seed = (uint64_t)g->seed};
  size_t printed = 0;
  gd_status status = encode_talk(g, t, &request.prompt);
  request.max_new_tokens = gd_generate_most(g, -1, request.prompt.count);
  gd_start start = {request, 0, w};
  if (status == GD_OK) status = gd_generate_begin(g, &start, 1);
  while (status == GD_OK) {
    bool stop;
    print_settled(g, w, &printed);
    if (w->stopped_by) break;
    status = gd_inference_stop_asked(g->model.session, &stop);
    if (status == GD_OK) status = stop ? gd_generate_interrupt(g, w) : gd_generate_step(g);
  }
  g->in_slots[0] = 0;
  gd_ids_free(&request.prompt);
  if (g->first) {
    putchar('\n');
    fflush(stdout);
  }
  return status;
}

/* A turn that is no use is told, and the talk goes on without it. */
static gd_status take_turn(gd_generate *g, talk *t, const gd_bytes *line) {
  gd_written w = {0};
  GD_TRY(add_turn(t, GD_TURN_USER, line->bytes, line->count));
  gd_status status = answer(g, t, &w);
  if (status == GD_USAGE || status == GD_BAD_DATA) {
    if (g->first) gd_log(GD_LOG_WARNING, "%s", gd_error_text());
    gd_error_clear();
    forget(t, t->count - 1, 1);
    status = GD_OK;
  } else if (status == GD_OK)
    status = add_turn(t, GD_TURN_ASSISTANT, w.text.bytes ? w.text.bytes : "", w.text.count);
  gd_written_free(&w);
  return status;
}

/* Ctrl-C alone: another signal asks for the end. */
static gd_status interrupted_only(const gd_generate *g, bool *only) {
  int32_t number = gd_signals_pending();
  if (gd_session_ranks(g->model.session) > 1) GD_TRY(gd_session_broadcast(g->model.session, &number, sizeof number, 0));
  *only = number == 0 || number == SIGINT;
  return GD_OK;
}

static gd_status run(gd_generate *g, talk *t, gd_input *input) {
  bool asks = g->first && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  while (true) {
    gd_bytes line = {0};
    gd_input_kind kind;
    if (asks) {
      fputs("> ", stdout);
      fflush(stdout);
    }
    gd_status status = gd_input_next(input, g->model.session, true, &kind, &line);
    bool none = kind != GD_INPUT_LINE, goes_on = true;
    if (status == GD_OK && !none && line.count) status = take_turn(g, t, &line);
    gd_bytes_free(&line);
    GD_TRY(status);
    if (none) break;
    GD_TRY(interrupted_only(g, &goes_on));
    if (!goes_on) break;
    gd_signals_forget();
  }
  if (asks) puts("");
  return GD_OK;
}

gd_status gd_generate_chat(gd_generate *g) {
  talk t = {0};
  gd_input input = {0};
  gd_status status = gd_session_agree(g->model.session, gd_prompt_need_template(g));
  if (status == GD_OK && g->system) {
    status = add_turn(&t, GD_TURN_SYSTEM, g->system, strlen(g->system));
    t.kept = 1;
  }
  if (status == GD_OK) status = gd_input_open(&input, "-", g->first);
  if (status == GD_OK) status = run(g, &t, &input);
  gd_input_close(&input);
  forget(&t, 0, t.count);
  free(t.turns);
  return status;
}
