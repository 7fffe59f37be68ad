/* generate_prompt.c - texts and turns to the ids that a model goes on from. */
#include <string.h>

#include "launch/data_brought.h"
#include "launch/generate.h"

static gd_status need_tokenizer(const gd_generate *g) {
  if (g->model.tokenizer) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s brings no tokenizer; name one with --tokenizer, or give --token-ids",
                      g->options.checkpoint);
}

gd_status gd_prompt_of_text(gd_generate *g, const char *text, size_t count, gd_ids *out) {
  GD_TRY(need_tokenizer(g));
  int32_t start = gd_tokenizer_bos(g->model.tokenizer);
  if (start >= 0) GD_TRY(gd_ids_append(out, &start, 1));
  if (count) GD_TRY(gd_tokenizer_encode(g->model.tokenizer, text, count, true, out));
  bool twice = start >= 0 && out->count > 1 && out->ids[1] == start; /* the prompt brings it */
  if (twice) memmove(out->ids, out->ids + 1, --out->count * sizeof *out->ids);
  start = gd_tokenizer_eot(g->model.tokenizer);
  if (!out->count && start >= 0) GD_TRY(gd_ids_append(out, &start, 1)); /* a document begins */
  if (out->count) return GD_OK;
  return gd_fail_user(GD_USAGE, "the prompt is empty, and this tokenizer has no token that begins a text");
}

gd_status gd_prompt_need_template(gd_generate *g) {
  if (g->layout.name) return GD_OK;
  GD_TRY(need_tokenizer(g));
  GD_TRY(gd_data_template(g->options.checkpoint, g->template_name, &g->layout));
  GD_TRY(gd_template_check(&g->layout, g->model.tokenizer, &g->turn_end));
  if (!g->ignore_end && !g->end_ids && g->turn_end < g->model.spec.model.vocabulary) g->ends[g->turn_end] = true;
  return GD_OK;
}

gd_status gd_prompt_of_turns(gd_generate *g, const gd_turn *turns, int32_t count, gd_ids *out) {
  enum { MOST_TURNS = 4096 };
  static gd_turn with_response[MOST_TURNS + 1];
  gd_bytes targets = {0};
  bool differs;
  GD_TRY(gd_prompt_need_template(g));
  if (count > MOST_TURNS) return gd_fail_user(GD_BAD_DATA, "found %d turns, expected at most %d", count, MOST_TURNS);
  /* An empty response: what stands before it is what asks for one; its end token goes. */
  memcpy(with_response, turns, (size_t)count * sizeof *turns);
  with_response[count] = (gd_turn){.role = GD_TURN_ASSISTANT, .text = ""};
  gd_status status =
      gd_template_encode(&g->layout, g->model.tokenizer, g->turn_end, with_response, count + 1, out, &targets, &differs);
  if (status == GD_OK) out->count--;
  gd_bytes_free(&targets);
  return status;
}
