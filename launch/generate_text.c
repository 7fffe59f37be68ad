/* generate_text.c - from requests to texts: tokens as they come, where a text stops, and how it is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/base/utf8.h"
#include "launch/generate.h"

int32_t gd_generate_texts(const gd_generate *g) {
  return g->beams > 1 ? 1 : (int32_t)g->samples;
}

int32_t gd_generate_width(const gd_generate *g) {
  return g->beams > 1 ? (int32_t)g->beams : (int32_t)g->samples;
}

void gd_written_free(gd_written *text) {
  gd_ids_free(&text->tokens);
  gd_bytes_free(&text->text);
  memset(text, 0, sizeof *text);
}

int64_t gd_generate_most(const gd_generate *g, int64_t own, size_t count) {
  int64_t most = own >= 0 ? own : g->max_new_tokens >= 0 ? g->max_new_tokens : g->max_length >= 0 ? INT64_MAX : 100;
  if (g->max_length < 0) return most;
  int64_t left = g->max_length - (int64_t)count;
  return left < 0 ? 0 : left < most ? left : most;
}

/* ---- one text ---- */

/* Where the first stop text begins, or text.count; *held = bytes at the end that may yet become one. */
static size_t find_stop(const gd_generate *g, const gd_written *w, size_t *held) {
  size_t best = w->text.count;
  *held = 0;
  for (int i = 0; i < g->stops.count; i++) {
    const char *stop = g->stops.text[i];
    size_t length = strlen(stop);
    for (size_t at = w->settled; at < w->text.count; at++) {
      size_t left = w->text.count - at;
      if (memcmp(w->text.bytes + at, stop, left < length ? left : length) != 0) continue;
      if (left >= length && at < best) best = at;
      if (left < length && left > *held) *held = left;
    }
  }
  return best;
}

/* What stops a text that has its most tokens. */
static const char *limit_of(const gd_generate *g, const gd_written *w) {
  return g->max_length >= 0 && (g->max_new_tokens < 0 || w->most < g->max_new_tokens) ? "max_length" : "max_new_tokens";
}

static void stop_by(gd_written *w, const char *what) {
  w->stopped_by = what;
  w->settled = w->text.count;
}

/* The next token of a text; -1: there was no room for one. */
static gd_status add_token(const gd_generate *g, gd_written *w, int32_t token) {
  size_t held;
  if (token < 0 || g->ends[token]) {
    stop_by(w, token < 0 ? "context" : "end");
    return GD_OK;
  }
  GD_TRY(gd_ids_append(&w->tokens, &token, 1));
  if (g->model.tokenizer) GD_TRY(gd_tokenizer_decode(g->model.tokenizer, w->previous, &token, 1, &w->text));
  w->previous = token;
  size_t stop = find_stop(g, w, &held);
  if (stop < w->text.count) {
    w->text.count = stop;
    stop_by(w, "stop");
  } else if ((int64_t)w->tokens.count >= w->most) {
    stop_by(w, limit_of(g, w));
  } else
    w->settled = w->text.count - held;
  return GD_OK;
}

/* ---- texts in slots ---- */

/* The best text of a search so far. */
static gd_status take_best(gd_generate *g, gd_written *w) {
  const gd_beam *best = gd_beam_search_best(&g->search);
  for (int64_t i = 0; i < best->count && !w->stopped_by; i++) GD_TRY(add_token(g, w, best->tokens[i]));
  if (!w->stopped_by) stop_by(w, (int64_t)best->count < w->most ? "context" : limit_of(g, w));
  w->score = (double)best->score;
  return GD_OK;
}

gd_status gd_generate_interrupt(gd_generate *g, gd_written *w) {
  if (w->stopped_by) return GD_OK;
  if (g->beams > 1) GD_TRY(take_best(g, w));
  stop_by(w, "signal");
  return GD_OK;
}

static gd_status begin_search(gd_generate *g, const gd_request *request, gd_written *w) {
  GD_TRY(gd_beam_search_begin(&g->search, request->prompt.ids, (int64_t)request->prompt.count, w->most));
  return g->search.over ? take_best(g, w) : GD_OK;
}

/* The texts of a request before their first token, and how each is drawn. */
static void set_up(gd_generate *g, const gd_start *start, gd_sampling *sampling) {
  const gd_request *request = &start->request;
  for (int32_t i = 0; i < gd_generate_texts(g); i++) {
    gd_written *w = &start->texts[i];
    gd_written_free(w);
    w->previous = request->prompt.ids[request->prompt.count - 1];
    w->most = request->max_new_tokens;
    if (w->most == 0) stop_by(w, limit_of(g, w));
    g->in_slots[start->first_slot + i] = w;
    sampling[i] = (gd_sampling){.temperature = g->temperature, .top_k = (int32_t)g->top_k, .top_p = g->top_p};
    sampling[i].seed = request->seed;
    sampling[i].stream = (uint32_t)i;
    sampling[i].repetition_penalty = g->repetition_penalty;
    sampling[i].min_new_tokens = g->min_new_tokens;
    sampling[i].never = g->never;
    sampling[i].ends = g->ends;
    sampling[i].scored = g->rank_by != NULL;
  }
}

/* Reads the prompts of those that want a token, and adds it. */
static gd_status read_starts(gd_generate *g, const gd_start *starts, int32_t count, gd_sampling *sampling, gd_prompt *prompts) {
  int32_t texts = gd_generate_texts(g), wanted = 0;
  for (int32_t k = 0; k < count; k++) {
    const gd_request *request = &starts[k].request;
    set_up(g, &starts[k], sampling + k * texts);
    if (request->max_new_tokens == 0) continue;
    prompts[wanted++] =
        (gd_prompt){starts[k].first_slot, texts, sampling + k * texts, request->prompt.ids, (int64_t)request->prompt.count};
  }
  if (wanted && g->beams == 1) GD_TRY(gd_generator_prompts(&g->generator, prompts, wanted));
  for (int32_t k = 0; k < count; k++) {
    if (starts[k].request.max_new_tokens > 0 && g->beams > 1) GD_TRY(begin_search(g, &starts[k].request, starts[k].texts));
    for (int32_t i = 0; starts[k].request.max_new_tokens > 0 && g->beams == 1 && i < texts; i++) {
      const gd_slot_text *slot = &g->generator.slots[starts[k].first_slot + i];
      starts[k].texts[i].score = slot->log_likelihood;
      GD_TRY(add_token(g, &starts[k].texts[i], slot->tokens[slot->known - 1]));
    }
  }
  return GD_OK;
}

gd_status gd_generate_begin(gd_generate *g, const gd_start *starts, int32_t count) {
  gd_sampling *sampling = calloc((size_t)count * (size_t)gd_generate_texts(g), sizeof *sampling);
  gd_prompt *prompts = calloc((size_t)count, sizeof *prompts);
  gd_status status = sampling && prompts ? read_starts(g, starts, count, sampling, prompts)
                                         : gd_fail(GD_NO_MEMORY, "no memory for %d requests", count);
  free(sampling);
  free(prompts);
  return status;
}

gd_status gd_generate_step(gd_generate *g) {
  gd_written **in = g->in_slots;
  int32_t count = 0, slots = g->model.model.cache.slots;
  if (g->beams > 1) {
    if (!in[0] || in[0]->stopped_by) return GD_OK;
    GD_TRY(gd_beam_search_step(&g->search));
    return g->search.over ? take_best(g, in[0]) : GD_OK;
  }
  for (int32_t slot = 0; slot < slots; slot++)
    if (in[slot] && !in[slot]->stopped_by) g->stepping[count++] = slot;
  GD_TRY(gd_generator_next(&g->generator, g->stepping, count, g->next));
  for (int32_t i = 0; i < count; i++) {
    gd_written *w = in[g->stepping[i]];
    w->score = g->generator.slots[g->stepping[i]].log_likelihood;
    GD_TRY(add_token(g, w, g->next[i]));
  }
  return GD_OK;
}

/* ---- telling ---- */

void gd_print_text(const char *bytes, size_t count) {
  while (count) {
    bool valid;
    size_t run = gd_utf8_run(bytes, count, &valid);
    if (valid) fwrite(bytes, 1, run, stdout);
    for (size_t i = 0; !valid && i < run; i++) fputs("\xef\xbf\xbd", stdout);
    bytes += run;
    count -= run;
  }
  fflush(stdout);
}

gd_status gd_written_json(const gd_generate *g, const gd_written *w, gd_bytes *out) {
  GD_TRY(gd_bytes_printf(out, "\"text\":"));
  GD_TRY(gd_json_quote(out, w->text.bytes ? w->text.bytes : "", w->text.count));
  GD_TRY(gd_bytes_printf(out, ",\"token_ids\":["));
  for (size_t i = 0; i < w->tokens.count; i++) GD_TRY(gd_bytes_printf(out, "%s%d", i ? "," : "", w->tokens.ids[i]));
  GD_TRY(gd_bytes_printf(out, "],\"stopped_by\":\"%s\"", w->stopped_by));
  if (g->beams > 1) return gd_bytes_printf(out, ",\"score\":%.9g", w->score);
  return g->rank_by ? gd_bytes_printf(out, ",\"loglikelihood\":%.9g", w->score) : GD_OK;
}

void gd_generate_rank(const gd_generate *g, const gd_written *texts, int32_t order[]) {
  for (int32_t i = 0; i < gd_generate_texts(g); i++) {
    int32_t at = i;
    for (; g->rank_by && at > 0 && texts[i].score > texts[order[at - 1]].score; at--) order[at] = order[at - 1];
    order[at] = i;
  }
}
