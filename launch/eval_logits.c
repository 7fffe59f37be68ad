/* eval_logits.c - gptdist-eval --task logits: what a model says of given tokens. */
#include <stdio.h>
#include <string.h>

#include "launch/eval.h"

typedef struct logits_printer {
  const gd_eval *e;
  const gd_ids *ids;
} logits_printer;

/* --json: the whole row with 9 significant digits; plain: the five largest. */
static gd_status print_logits(void *context, int64_t position, const float *logits) {
  const logits_printer *p = context;
  int32_t outputs = gd_model_outputs(&p->e->model.model), top[5];
  if (!p->e->first) return GD_OK;
  if (p->e->line.json) {
    printf("{\"position\":%lld,\"token\":%d,\"logits\":[", (long long)position, p->ids->ids[position]);
    for (int32_t i = 0; i < outputs; i++) gd_eval_print_number(i ? "," : "", (double)logits[i]);
    puts("]}");
    return GD_OK;
  }
  int count = 0;
  for (int32_t i = 0; i < outputs; i++) {
    int at = count < 5 ? count++ : 5;
    for (; at > 0 && logits[i] > logits[top[at - 1]]; at--)
      if (at < 5) top[at] = top[at - 1];
    if (at < 5) top[at] = i;
  }
  printf("position %lld, token %d:", (long long)position, p->ids->ids[position]);
  for (int i = 0; i < count; i++) printf("  %d %.5f", top[i], (double)logits[top[i]]);
  putchar('\n');
  return GD_OK;
}

static gd_status read_ids(const gd_eval *e, gd_ids *ids) {
  if (e->prompt) {
    GD_TRY(gd_eval_need_tokenizer(e));
    int32_t start = gd_tokenizer_bos(e->model.tokenizer);
    if (start >= 0) GD_TRY(gd_ids_append(ids, &start, 1));
    return gd_tokenizer_encode(e->model.tokenizer, e->prompt, strlen(e->prompt), true, ids);
  }
  return gd_inference_parse_ids("--token-ids", e->token_ids, ids);
}

gd_status gd_eval_logits(gd_eval *e) {
  gd_ids ids = {0};
  logits_printer printer = {e, &ids};
  gd_status status = gd_session_agree(e->model.session, read_ids(e, &ids));
  if (status == GD_OK) status = gd_evaluator_logits(&e->evaluator, ids.ids, (int64_t)ids.count, print_logits, &printer);
  gd_ids_free(&ids);
  return status;
}
