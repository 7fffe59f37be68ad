/* prepare_common.c - what both halves of prepare use: the path of a unit, sums over the ranks, progress. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data/prepare_internal.h"
#include "shard/base/log.h"

enum { SHARD_TOKENS = 100000000 };

gd_status gd_prepare_unit_path(const gd_prepare *prepare, int64_t unit, const char *kind, char out[GD_PATH_BYTES]) {
  char name[64];
  snprintf(name, sizeof name, "unit-%08lld.%s", (long long)unit, kind);
  return gd_path_join(out, GD_PATH_BYTES, prepare->work, name);
}

gd_status gd_prepare_sum(const gd_prepare *prepare, int64_t *values, int64_t count) {
  if (prepare->ranks == 1) return GD_OK;
  size_t bytes = (size_t)count * sizeof *values;
  int64_t *everyone = malloc((size_t)prepare->ranks * bytes + 1);
  if (!everyone) return gd_fail(GD_NO_MEMORY, "no memory for %lld counts of %d ranks", (long long)count, prepare->ranks);
  gd_status status = gd_session_all_gather(prepare->session, values, everyone, bytes);
  memset(values, 0, bytes);
  for (int32_t r = 0; status == GD_OK && r < prepare->ranks; r++)
    for (int64_t i = 0; i < count; i++) values[i] += everyone[r * count + i];
  free(everyone);
  return status;
}

void gd_prepare_tell(const gd_prepare *prepare, int64_t done) {
  gd_prepare_progress progress = prepare->progress;
  progress.done = done;
  if (prepare->options->progress) prepare->options->progress(prepare->options->progress_context, &progress);
}

gd_token_shard_info gd_prepare_info(const gd_prepare *prepare) {
  const gd_tokenizer *tokenizer = prepare->tokenizer;
  gd_token_shard_info info = {.vocabulary = gd_tokenizer_vocabulary(tokenizer), .eot = gd_tokenizer_eot(tokenizer)};
  snprintf(info.tokenizer, sizeof info.tokenizer, "%s", gd_tokenizer_name(tokenizer));
  snprintf(info.tokenizer_digest, sizeof info.tokenizer_digest, "%s", gd_tokenizer_digest(tokenizer));
  return info;
}

gd_status gd_prepare_add_specials(gd_prepare *prepare) {
  const char *list = prepare->options->add_specials;
  if (!list) return GD_OK;
  char *copy = strdup(list), *rest = copy;
  gd_status status = copy ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for special tokens");
  while (status == GD_OK && rest) {
    bool known;
    const char *text = strsep(&rest, ",");
    status = gd_tokenizer_add(prepare->tokenizer, text, &known);
    if (status == GD_OK && known && prepare->rank == 0)
      gd_log(GD_LOG_INFO, "--add-special: %s is a special token of the tokenizer already", text);
  }
  free(copy);
  return status == GD_USAGE ? gd_error_context(status, "--add-special: found \"%.200s\"", list) : status;
}

int64_t gd_prepare_shard_tokens(const gd_prepare *prepare) {
  return prepare->options->shard_tokens > 0 ? prepare->options->shard_tokens : SHARD_TOKENS;
}

int32_t gd_prepare_column(const gd_prepare *prepare, gd_column_role role) {
  for (int32_t k = 0; k < prepare->corpus.column_count; k++)
    if (prepare->options->task.roles[k] == role) return k;
  return -1;
}

void gd_prepare_report_free(gd_prepare_report *report) {
  gd_data_task_free(&report->task);
  free(report->label_documents);
  report->label_documents = NULL;
}
