/* train.c - a byte-level vocabulary of one's own, from files to a folder. */
#include "io/tokenizer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/tokenizer/internal.h"
#include "io/tokenizer/learn.h"
#include "io/tokenizer/split.h"
#include "io/base/utf8.h"
#include "shard/spec.h"

/* A piece of this length is no word but data; it would cost time and teach nothing. */
enum { LONGEST_WORD = 256 };

static gd_status count_part(const gd_splitter *splitter, gd_splitter_state *state, gd_words *words, const char *bytes,
                            size_t count) {
  for (size_t start = 0, end; start < count; start = end) {
    bool matched;
    GD_TRY(gd_splitter_next(splitter, state, bytes, count, start, &end, &matched));
    if (end - start <= LONGEST_WORD) GD_TRY(gd_words_count(words, bytes + start, end - start));
  }
  return GD_OK;
}

static gd_status count_file(const char *path, const gd_corpus_options *options, const gd_splitter *splitter,
                            gd_splitter_state *state, gd_words *words, int64_t *total) {
  gd_corpus *corpus;
  gd_corpus_part part;
  GD_TRY(gd_corpus_open(path, options, 0, -1, &corpus));
  gd_status status = GD_OK;
  for (bool more = true; status == GD_OK;) {
    status = gd_corpus_next(corpus, &part, &more);
    if (status != GD_OK || !more) break;
    *total += (int64_t)part.count;
    status = count_part(splitter, state, words, part.bytes, part.count);
  }
  gd_corpus_close(corpus);
  return status;
}

static gd_status count_files(const gd_tokenizer_train_options *options, gd_words *words, int64_t *total) {
  gd_corpus_options corpus = options->corpus;
  gd_splitter *splitter = NULL;
  gd_splitter_state *state = NULL;
  corpus.cut = true;
  corpus.drop_empty = true; /* no words are lost */
  gd_status status = gd_splitter_open(gd_splitter_gpt2, &splitter);
  if (status == GD_OK) status = gd_splitter_state_open(splitter, &state);
  for (int32_t i = 0; status == GD_OK && i < options->input_count; i++)
    status = count_file(options->inputs[i], &corpus, splitter, state, words, total);
  gd_splitter_state_close(state);
  gd_splitter_close(splitter);
  if (status == GD_OK && !gd_words_number(words))
    return gd_fail_user(GD_BAD_DATA, "the inputs hold no text, the first is %s", options->inputs[0]);
  return status;
}

/* Every id's text in GPT-2's alphabet, one behind the other. */
static gd_status write_texts(const gd_learned *merges, int64_t count, gd_bytes *blob, size_t *offset, gd_bytes *vocab,
                             gd_bytes *list) {
  uint8_t order[256];
  gd_gpt2_order(order);
  GD_TRY(gd_bytes_printf(vocab, "{"));
  GD_TRY(gd_bytes_printf(list, "#version: 0.2\n"));
  for (int64_t id = 0; id < 256 + count; id++) {
    offset[id] = blob->count;
    if (id < 256) {
      GD_TRY(gd_utf8_append(blob, gd_gpt2_code_point(order[id])));
    } else {
      const gd_learned *merge = &merges[id - 256];
      size_t left = offset[merge->left], left_count = offset[merge->left + 1] - left;
      size_t right = offset[merge->right], right_count = offset[merge->right + 1] - right;
      GD_TRY(gd_bytes_reserve(blob, left_count + right_count)); /* the parts lie in the same buffer */
      GD_TRY(gd_bytes_append(blob, blob->bytes + left, left_count));
      GD_TRY(gd_bytes_append(blob, blob->bytes + right, right_count));
      GD_TRY(gd_bytes_printf(list, "%.*s %.*s\n", (int)left_count, blob->bytes + left, (int)right_count, blob->bytes + right));
    }
    offset[id + 1] = blob->count;
    GD_TRY(gd_json_quote(vocab, blob->bytes + offset[id], blob->count - offset[id]));
    GD_TRY(gd_bytes_printf(vocab, ": %lld, ", (long long)id));
  }
  return gd_bytes_printf(vocab, "\"<|endoftext|>\": %lld}\n", (long long)(256 + count));
}

static gd_status write_folder(const char *folder, const gd_bytes *vocab, const gd_bytes *list) {
  char path[GD_PATH_BYTES], spec[GD_PATH_BYTES + 8];
  GD_TRY(gd_folder_make(folder));
  GD_TRY(gd_path_join(path, sizeof path, folder, "vocab.json"));
  GD_TRY(gd_file_write(path, vocab->bytes, vocab->count));
  GD_TRY(gd_path_join(path, sizeof path, folder, "merges.txt"));
  GD_TRY(gd_file_write(path, list->bytes, list->count));
  /* Opened as anybody would, it writes its own description. */
  gd_tokenizer *tokenizer;
  snprintf(spec, sizeof spec, "gpt2:%s", folder);
  GD_TRY(gd_tokenizer_open(spec, &tokenizer));
  gd_status status = gd_tokenizer_save(tokenizer, folder);
  if (status == GD_OK) status = gd_path_join(path, sizeof path, folder, "tokenizer.json");
  if (status == GD_OK) status = gd_tokenizer_export_json(tokenizer, path);
  gd_tokenizer_close(tokenizer);
  return status;
}

static gd_status check_output(const gd_tokenizer_train_options *options) {
  static const char *const names[] = {"vocab.json", "merges.txt", "gptdist-tokenizer.json", "tokenizer.json", "encoder.json"};
  for (size_t i = 0; !options->force && i < sizeof names / sizeof *names; i++) {
    char path[GD_PATH_BYTES];
    GD_TRY(gd_path_join(path, sizeof path, options->output, names[i]));
    if (gd_file_exists(path)) return gd_fail_user(GD_USAGE, "%s: exists already; --force replaces it", path);
  }
  return GD_OK;
}

gd_status gd_tokenizer_train(const gd_tokenizer_train_options *options, gd_tokenizer_train_report *report) {
  *report = (gd_tokenizer_train_report){0};
  gd_words *words = NULL;
  gd_learned *merges = NULL;
  gd_bytes blob = {0}, vocab = {0}, list = {0};
  size_t *offset = NULL;
  int32_t byte_ids[256];
  uint8_t order[256];
  gd_gpt2_order(order);
  for (int32_t i = 0; i < 256; i++) byte_ids[order[i]] = i;
  gd_status status = GD_OK;
  if (options->vocabulary < 258)
    return gd_fail_user(GD_USAGE, "vocabulary of %lld, expected at least 258", (long long)options->vocabulary);
  GD_TRY(check_output(options));
  GD_TRY_GOTO(status, done, gd_words_open(&words));
  GD_TRY_GOTO(status, done, count_files(options, words, &report->bytes));
  report->words = gd_words_number(words);
  GD_TRY_GOTO(status, done, gd_learn_merges(words, byte_ids, 256, options->vocabulary - 257, &merges, &report->merges));
  offset = calloc((size_t)report->merges + 258, sizeof *offset);
  if (!offset) status = gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  if (status == GD_OK) status = write_texts(merges, report->merges, &blob, offset, &vocab, &list);
  if (status == GD_OK) status = write_folder(options->output, &vocab, &list);
  report->vocabulary = (int32_t)report->merges + 257;
done:
  gd_words_close(words);
  free(merges);
  free(offset);
  gd_bytes_free(&blob);
  gd_bytes_free(&vocab);
  gd_bytes_free(&list);
  return status;
}
