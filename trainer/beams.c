/* beams.c - the steps of a beam search. */
#include "trainer/beams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t vocabulary_of(const gd_beam_search *search) {
  return search->model->layout.spec.model.vocabulary;
}

static gd_beam *take_beams(int32_t count, int64_t room) {
  gd_beam *beams = calloc((size_t)count, sizeof *beams);
  for (int32_t i = 0; beams && i < count; i++) beams[i].tokens = malloc((size_t)room * sizeof(int32_t));
  return beams;
}

static bool are_whole(const gd_beam *beams, int32_t count) {
  for (int32_t i = 0; beams && i < count; i++)
    if (!beams[i].tokens) return false;
  return beams != NULL;
}

static void give_beams(gd_beam *beams, int32_t count) {
  for (int32_t i = 0; beams && i < count; i++) free(beams[i].tokens);
  free(beams);
}

gd_status gd_beam_search_open(gd_model *model, const gd_beam_options *options, gd_beam_search *out) {
  int32_t vocabulary = model->layout.spec.model.vocabulary, ends = 0, beams = options->beams;
  for (int32_t i = 0; options->sampling.ends && i < vocabulary; i++) ends += options->sampling.ends[i];
  *out = (gd_beam_search){.model = model, .options = *options, .room = model->cache.capacity + 1};
  out->keep = beams * (ends > 1 ? 1 + ends : 2);
  if (out->keep > vocabulary)
    return gd_fail_user(GD_USAGE, "--beams: found %d, too many for a vocabulary of %d", beams, vocabulary);
  size_t rows = (size_t)beams, keep = (size_t)out->keep, room = (size_t)out->room;
  out->beams = take_beams(beams, out->room);
  out->next = take_beams(beams, out->room);
  out->done = take_beams(beams, out->room);
  out->logits = malloc(rows * (size_t)vocabulary * sizeof *out->logits);
  out->raw = malloc(rows * (size_t)vocabulary * sizeof *out->raw);
  out->best = malloc(rows * keep * sizeof *out->best);
  out->continuations = malloc(rows * keep * sizeof *out->continuations);
  out->history = malloc(rows * room * sizeof *out->history);
  if (are_whole(out->beams, beams) && are_whole(out->next, beams) && are_whole(out->done, beams) && out->logits && out->raw &&
      out->best && out->continuations && out->history)
    return GD_OK;
  gd_beam_search_close(out);
  return gd_fail(GD_NO_MEMORY, "no memory for %d beams", beams);
}

void gd_beam_search_close(gd_beam_search *search) {
  give_beams(search->beams, search->options.beams);
  give_beams(search->next, search->options.beams);
  give_beams(search->done, search->options.beams);
  free(search->logits);
  free(search->raw);
  free(search->best);
  free(search->continuations);
  free(search->history);
  memset(search, 0, sizeof *search);
}

/* Scores of all continuations of beam b, and the best of them. */
static int32_t score_beam(gd_beam_search *search, int32_t b) {
  const gd_beam *beam = &search->beams[b];
  int64_t vocabulary = vocabulary_of(search);
  float *scores = search->logits + b * vocabulary, *raw = search->raw + b * vocabulary;
  int32_t *history = search->history + b * search->room;
  double sum = gd_log_sum_exp(scores, (int32_t)vocabulary);
  for (int64_t i = 0; i < vocabulary; i++) raw[i] = (float)((double)scores[i] - sum);
  memcpy(scores, raw, (size_t)vocabulary * sizeof *scores);
  memcpy(history, search->prompt, (size_t)search->prompt_count * sizeof *history);
  memcpy(history + search->prompt_count, beam->tokens, (size_t)beam->count * sizeof *history);
  gd_sampling_process(&search->options.sampling, history, search->prompt_count + beam->count, beam->count, (int32_t)vocabulary,
                      raw, scores);
  for (int64_t i = 0; i < vocabulary; i++) scores[i] += beam->score;
  return gd_best(scores, (int32_t)vocabulary, -INFINITY, search->options.sampling.never, search->keep,
                 search->best + b * search->keep);
}

/* Larger scores first, among equals the earlier beam and the lower id. */
static int in_order(const void *a, const void *b) {
  const gd_continuation *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  if (x->beam != y->beam) return x->beam < y->beam ? -1 : 1;
  return (x->token > y->token) - (x->token < y->token);
}

/* The best `keep` continuations of all running beams, in order. */
static int32_t find_continuations(gd_beam_search *search) {
  int32_t count = 0, threads = search->model->kernels.threads, found[GD_MOST_BEAMS];
#pragma omp parallel for num_threads(threads < search->running ? threads : search->running) schedule(static)
  for (int32_t b = 0; b < search->running; b++) found[b] = score_beam(search, b);
  for (int32_t b = 0; b < search->running; b++)
    for (int32_t i = 0; i < found[b]; i++) {
      gd_candidate c = search->best[b * search->keep + i];
      search->continuations[count++] = (gd_continuation){c.logit, b, c.token};
    }
  qsort(search->continuations, (size_t)count, sizeof *search->continuations, in_order);
  return count < search->keep ? count : search->keep;
}

/* A beam and one more token. */
static void extend(const gd_beam_search *search, const gd_continuation *c, gd_beam *out) {
  const gd_beam *from = &search->beams[c->beam];
  memcpy(out->tokens, from->tokens, (size_t)from->count * sizeof *out->tokens);
  out->tokens[from->count] = c->token;
  out->count = from->count + 1;
  out->score = c->score;
  out->slot = -1;
}

/* Puts a finished text among the others, behind those of the same score; the worst of too many is dropped. */
static void finish(gd_beam_search *search, const gd_continuation *c) {
  double length = (double)(search->beams[c->beam].count + 1);
  float score = c->score / (float)pow(length, search->options.length_penalty);
  int32_t at = search->finished, last = search->options.beams - 1;
  while (at > 0 && score > search->done[at - 1].score) at--;
  if (at > last) return;
  gd_beam room = search->done[last];
  memmove(search->done + at + 1, search->done + at, (size_t)(last - at) * sizeof room);
  search->done[at] = room;
  extend(search, c, &search->done[at]);
  search->done[at].score = score;
  if (search->finished <= last) search->finished++;
}

/* Slots of the next beams: the first that goes on from a beam has its slot, others get a copy in one that is free. */
static gd_status move_slots(gd_beam_search *search, const int32_t *parents, int32_t count) {
  int32_t free_slot = 0;
  bool used[GD_MOST_BEAMS] = {false};
  for (int32_t i = 0; i < count; i++) {
    int32_t slot = search->beams[parents[i]].slot;
    if (used[slot]) continue;
    used[slot] = true;
    search->next[i].slot = slot;
  }
  for (int32_t i = 0; i < count; i++) {
    if (search->next[i].slot >= 0) continue;
    while (used[free_slot]) free_slot++;
    used[free_slot] = true;
    search->next[i].slot = free_slot;
    GD_TRY(gd_model_copy_slot(search->model, search->beams[parents[i]].slot, free_slot));
  }
  return GD_OK;
}

/* Whether what is running could still be better than the worst finished text. */
static bool can_improve(const gd_beam_search *search) {
  const gd_beam_options *o = &search->options;
  if (search->running == 0) return false;
  if (search->finished < o->beams) return true;
  bool longest = o->early == GD_EARLY_NEVER && o->length_penalty > 0;
  double length = (double)(longest ? o->max_new_tokens : search->beams[0].count);
  return search->beams[0].score / (float)pow(length, o->length_penalty) > search->done[o->beams - 1].score;
}

/* From the logits of all running beams to the next ones. */
static gd_status choose(gd_beam_search *search) {
  const gd_beam_options *o = &search->options;
  const bool *ends = o->sampling.ends;
  int32_t count = find_continuations(search), next = 0, parents[GD_MOST_BEAMS];
  bool last = search->beams[0].count + 1 >= o->max_new_tokens;
  for (int32_t i = 0; i < count; i++) {
    const gd_continuation *c = &search->continuations[i];
    bool ended = last || (ends && ends[c->token]);
    if (ended && i < o->beams) finish(search, c);
    if (ended || next == o->beams) continue;
    parents[next] = c->beam;
    extend(search, c, &search->next[next++]);
  }
  GD_TRY(move_slots(search, parents, next));
  gd_beam *old = search->beams;
  if (next > 0) {
    search->beams = search->next;
    search->next = old;
    search->running = next;
  }
  search->over = next == 0 || !can_improve(search) || (o->early == GD_EARLY_YES && search->finished == o->beams);
  return GD_OK;
}

gd_status gd_beam_search_begin(gd_beam_search *search, const int32_t *prompt, int64_t count, int64_t max_new_tokens) {
  search->prompt = prompt;
  search->prompt_count = count;
  search->options.max_new_tokens = max_new_tokens;
  if (max_new_tokens > search->room - count) search->options.max_new_tokens = search->room - count;
  search->running = 1;
  search->finished = 0;
  search->beams[0].count = 0;
  search->beams[0].score = 0;
  search->beams[0].slot = 0;
  GD_TRY(gd_generator_read(search->model, 0, 0, prompt, count, search->logits));
  return choose(search);
}

gd_status gd_beam_search_step(gd_beam_search *search) {
  int32_t count = search->running, tokens[GD_MOST_BEAMS];
  gd_infer_part parts[GD_MOST_BEAMS];
  for (int32_t i = 0; i < count; i++) {
    const gd_beam *beam = &search->beams[i];
    tokens[i] = beam->tokens[beam->count - 1];
    parts[i] = (gd_infer_part){beam->slot, 1, 1};
  }
  GD_TRY(gd_model_infer(search->model, parts, count, tokens, search->logits));
  return choose(search);
}

const gd_beam *gd_beam_search_best(const gd_beam_search *search) {
  return search->finished > 0 ? &search->done[0] : &search->beams[0];
}
