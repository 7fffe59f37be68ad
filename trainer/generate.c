/* generate.c - prompts into slots, and one token after the other for several of them. */
#include "trainer/generate.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

gd_status gd_generator_open(gd_model *model, gd_generator *out) {
  size_t vocabulary = (size_t)model->layout.spec.model.vocabulary, slots = (size_t)model->cache.slots;
  size_t threads = (size_t)model->kernels.threads, capacity = (size_t)model->cache.capacity;
  *out = (gd_generator){.model = model};
  out->slots = calloc(slots, sizeof *out->slots);
  out->parts = calloc(slots, sizeof *out->parts);
  out->tokens = calloc((size_t)model->activations.rows, sizeof *out->tokens);
  out->logits = malloc(slots * vocabulary * sizeof *out->logits);
  out->raw = malloc(threads * vocabulary * sizeof *out->raw);
  out->candidates = malloc(threads * vocabulary * sizeof *out->candidates);
  bool good = out->slots && out->parts && out->tokens && out->logits && out->raw && out->candidates;
  for (size_t i = 0; good && i < slots; i++) good = (out->slots[i].tokens = malloc((capacity + 1) * sizeof(int32_t))) != NULL;
  if (good) return GD_OK;
  gd_generator_close(out);
  return gd_fail(GD_NO_MEMORY, "no memory for the logits of %zu texts, %zu each", slots, vocabulary);
}

void gd_generator_close(gd_generator *generator) {
  for (int32_t i = 0; generator->slots && i < generator->model->cache.slots; i++) free(generator->slots[i].tokens);
  free(generator->slots);
  free(generator->parts);
  free(generator->tokens);
  free(generator->logits);
  free(generator->raw);
  free(generator->candidates);
  memset(generator, 0, sizeof *generator);
}

gd_status gd_generator_check(const gd_model *model, const int32_t *tokens, int64_t count) {
  int32_t vocabulary = model->layout.spec.model.vocabulary;
  if (count >= model->cache.capacity)
    return gd_fail_user(GD_USAGE,
                        "the prompt has %lld tokens, but the context of this model is %d tokens (the new ones included)",
                        (long long)count, model->cache.capacity);
  for (int64_t i = 0; i < count; i++)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      return gd_fail_user(GD_BAD_DATA, "token id %d at position %lld of the prompt: this model has ids 0 to %d", tokens[i],
                          (long long)i, vocabulary - 1);
  return GD_OK;
}

gd_status gd_generator_read(gd_model *model, int32_t slot, int64_t stands, const int32_t *tokens, int64_t count,
                            float *logits) {
  int64_t most = model->activations.rows;
  model->cache.lengths[slot] = (int32_t)stands;
  for (int64_t first = stands; first < count; first += most) {
    int64_t rows = count - first < most ? count - first : most;
    gd_infer_part part = {slot, (int32_t)rows, first + rows == count};
    GD_TRY(gd_model_infer(model, &part, 1, tokens + first, logits));
  }
  return GD_OK;
}

/* The next token of a slot by its logits, which are written over. */
static void draw(gd_generator *generator, int32_t slot, float *logits) {
  const gd_model *model = generator->model;
  int32_t vocabulary = model->layout.spec.model.vocabulary;
  int64_t thread = omp_get_thread_num();
  gd_slot_text *text = &generator->slots[slot];
  float *raw = generator->raw + thread * vocabulary;
  memcpy(raw, logits, (size_t)vocabulary * sizeof *raw);
  gd_sampling_process(&text->sampling, text->tokens, text->known, text->new_tokens, vocabulary, raw, logits);
  int32_t token =
      gd_sample(&text->sampling, logits, vocabulary, model->cache.lengths[slot], generator->candidates + thread * vocabulary);
  if (text->sampling.scored) text->log_likelihood += (double)raw[token] - gd_log_sum_exp(raw, vocabulary);
  text->tokens[text->known++] = token;
  text->new_tokens++;
}

/* Draws for slots[count] by the rows of generator->logits. */
static void draw_all(gd_generator *generator, const gd_infer_part *parts, int32_t count) {
  int64_t vocabulary = generator->model->layout.spec.model.vocabulary;
  int32_t threads = generator->model->kernels.threads;
#pragma omp parallel for num_threads(threads < count ? threads : count) schedule(static)
  for (int32_t i = 0; i < count; i++) draw(generator, parts[i].slot, generator->logits + i * vocabulary);
}

/* Tokens that the slot's cache and the prompt have in common. At least one is read again: its logits are wanted. */
static int64_t common_tokens(const gd_generator *generator, int32_t slot, const int32_t *tokens, int64_t count) {
  int64_t same = 0, there = generator->model->cache.lengths[slot];
  while (same < there && same < count - 1 && generator->slots[slot].tokens[same] == tokens[same]) same++;
  return same;
}

/* Reads prompts[count] into their first slots; logits of prompt i become row i. A call is filled with rows of one prompt after
 * the other, so they end in their order. */
static gd_status read_prompts(gd_generator *generator, const gd_prompt *prompts, int32_t count) {
  gd_model *model = generator->model;
  const int32_t *lengths = model->cache.lengths;
  int64_t most = model->activations.rows, vocabulary = model->layout.spec.model.vocabulary;
  for (int32_t at = 0, done = 0; at < count; at += done) {
    int64_t rows = 0;
    int32_t parts = 0;
    done = 0;
    for (int32_t i = at; i < count && rows < most; i++) {
      const gd_prompt *p = &prompts[i];
      int64_t stands = lengths[p->first_slot], left = p->count - stands, now = left < most - rows ? left : most - rows;
      memcpy(generator->tokens + rows, p->tokens + stands, (size_t)now * sizeof *p->tokens);
      generator->parts[parts++] = (gd_infer_part){p->first_slot, (int32_t)now, now == left};
      rows += now;
      done += now == left;
    }
    GD_TRY(gd_model_infer(model, generator->parts, parts, generator->tokens, generator->logits + at * vocabulary));
  }
  return GD_OK;
}

/* The texts of a prompt, whose logits are row `from` and become rows `to` on. */
static gd_status begin_texts(gd_generator *generator, const gd_prompt *prompt, int32_t from, int32_t to) {
  size_t vocabulary = (size_t)generator->model->layout.spec.model.vocabulary;
  for (int32_t i = prompt->texts - 1; i >= 0; i--) {
    gd_slot_text *text = &generator->slots[prompt->first_slot + i];
    if (i > 0) GD_TRY(gd_model_copy_slot(generator->model, prompt->first_slot, prompt->first_slot + i));
    memmove(generator->logits + (size_t)(to + i) * vocabulary, generator->logits + (size_t)from * vocabulary,
            vocabulary * sizeof(float));
    memcpy(text->tokens, prompt->tokens, (size_t)prompt->count * sizeof *prompt->tokens);
    text->sampling = prompt->sampling[i];
    text->known = prompt->count;
    text->new_tokens = 0;
    text->log_likelihood = 0;
    generator->parts[to + i] = (gd_infer_part){prompt->first_slot + i, 1, 1};
  }
  return GD_OK;
}

gd_status gd_generator_prompts(gd_generator *generator, const gd_prompt *prompts, int32_t count) {
  int32_t texts = 0;
  for (int32_t i = 0; i < count; i++) {
    const gd_prompt *p = &prompts[i];
    generator->model->cache.lengths[p->first_slot] = (int32_t)common_tokens(generator, p->first_slot, p->tokens, p->count);
    texts += p->texts;
  }
  GD_TRY(read_prompts(generator, prompts, count));
  /* From the last on: no row of logits goes where one stands that is still to be taken. */
  for (int32_t i = count - 1, to = texts; i >= 0; i--) GD_TRY(begin_texts(generator, &prompts[i], i, to -= prompts[i].texts));
  draw_all(generator, generator->parts, texts);
  return GD_OK;
}

gd_status gd_generator_next(gd_generator *generator, const int32_t *slots, int32_t count, int32_t *next) {
  gd_model *model = generator->model;
  int32_t parts = 0;
  for (int32_t i = 0; i < count; i++) {
    const gd_slot_text *text = &generator->slots[slots[i]];
    next[i] = -1;
    if (model->cache.lengths[slots[i]] >= model->cache.capacity) continue;
    generator->tokens[parts] = text->tokens[text->known - 1];
    generator->parts[parts++] = (gd_infer_part){slots[i], 1, 1};
  }
  if (parts == 0) return GD_OK;
  GD_TRY(gd_model_infer(model, generator->parts, parts, generator->tokens, generator->logits));
  draw_all(generator, generator->parts, parts);
  for (int32_t i = 0, part = 0; i < count; i++)
    if (part < parts && generator->parts[part].slot == slots[i]) {
      const gd_slot_text *text = &generator->slots[slots[i]];
      next[i] = text->tokens[text->known - 1];
      part++;
    }
  return GD_OK;
}
