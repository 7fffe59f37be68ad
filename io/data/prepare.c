/* prepare.c - text to a dataset: every rank encodes its units, then the shards are made and the folder takes its place. */
#include "io/data/examples.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/base/utf8.h"

enum { CODE_POINTS = 0x110000 };

/* ---- progress ---- */

/* As they lie on the disk; -1: not known. */
static int64_t unit_bytes(const gd_prepare *prepare, int64_t index) {
  const gd_corpus_unit *unit = &prepare->plan[index];
  struct stat info;
  if (unit->end >= 0) return unit->end - unit->begin;
  bool known = stat(prepare->options->inputs[unit->input], &info) == 0 && S_ISREG(info.st_mode);
  return known ? info.st_size - unit->begin : -1;
}

static void start_progress(gd_prepare *prepare) {
  prepare->progress = (gd_prepare_progress){.phase = "encode"};
  bool known = true;
  for (int64_t u = 0; u < prepare->unit_count; u++) {
    int64_t bytes = unit_bytes(prepare, u);
    known = known && bytes >= 0;
    prepare->progress.total += bytes;
    if (u % prepare->ranks == prepare->rank) prepare->progress.mine += bytes;
  }
  if (!known) prepare->progress.total = 0;
}

/* ---- the chars vocabulary ---- */

static gd_status collect_unit(const gd_prepare *prepare, int64_t unit, uint8_t *seen) {
  gd_corpus *corpus;
  gd_corpus_part part;
  const gd_corpus_unit *plan = &prepare->plan[unit];
  const char *input = prepare->options->inputs[plan->input];
  struct stat info;
  if (strcmp(input, "-") == 0 || (stat(input, &info) == 0 && !S_ISREG(info.st_mode)))
    return gd_fail_user(GD_USAGE, "%s: expected a plain file, the chars tokenizer reads its inputs twice", input);
  GD_TRY(gd_corpus_open(input, &prepare->corpus, plan->begin, plan->end, &corpus));
  gd_status status = GD_OK;
  for (bool more = true; more;) {
    status = gd_corpus_next(corpus, &part, &more);
    if (status != GD_OK) break;
    for (size_t i = 0; i < part.count;) {
      uint32_t code_point = 0;
      size_t length = gd_utf8_length(part.bytes + i, part.count - i, &code_point);
      seen[code_point] = 1;
      i += length ? length : 1;
    }
  }
  gd_corpus_close(corpus);
  return status;
}

static gd_status tokenizer_from_seen(uint8_t *const *everyone, int32_t ranks, gd_tokenizer **out) {
  gd_bytes text = {0};
  gd_status status = GD_OK;
  for (uint32_t c = 0; status == GD_OK && c < CODE_POINTS; c++) {
    bool any = false;
    for (int32_t r = 0; r < ranks; r++) any = any || (*everyone)[(size_t)r * CODE_POINTS + c];
    if (any) status = gd_utf8_append(&text, c);
  }
  if (status == GD_OK && !text.count) status = gd_fail_user(GD_BAD_DATA, "the inputs hold no text");
  if (status == GD_OK) status = gd_tokenizer_from_characters(text.bytes, text.count, out);
  gd_bytes_free(&text);
  return status;
}

/* Every rank reads its units once more before they are encoded. Collective over the job. */
static gd_status make_chars(gd_prepare *prepare) {
  uint8_t *seen = calloc(CODE_POINTS, 1), *everyone = malloc((size_t)prepare->ranks * CODE_POINTS);
  gd_status status = seen && everyone ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for a vocabulary");
  for (int64_t u = prepare->rank; status == GD_OK && u < prepare->unit_count; u += prepare->ranks)
    status = collect_unit(prepare, u, seen);
  status = gd_session_agree(prepare->session, status);
  if (status == GD_OK) status = gd_session_all_gather(prepare->session, seen, everyone, CODE_POINTS);
  if (status == GD_OK) status = tokenizer_from_seen(&everyone, prepare->ranks, &prepare->tokenizer);
  if (status == GD_OK) status = gd_prepare_add_specials(prepare);
  free(seen);
  free(everyone);
  return status;
}

/* ---- encoding ---- */

static gd_status put(FILE *file, const char *path, const void *bytes, size_t size, size_t count) {
  if (fwrite(bytes, size, count, file) == count) return GD_OK;
  return gd_fail(GD_IO, "cannot write %s: %s", path, strerror(errno));
}

static gd_status encode_parts(gd_prepare *prepare, gd_corpus *corpus, gd_prepare_unit *unit, gd_ids *ids, FILE *const files[2],
                              char (*paths)[GD_PATH_BYTES]) {
  gd_corpus_part part;
  const int32_t eot = gd_tokenizer_eot(prepare->tokenizer);
  for (bool more;;) {
    GD_TRY(gd_corpus_next(corpus, &part, &more));
    unit->dropped = gd_corpus_dropped(corpus);
    if (!more) return GD_OK;
    ids->count = 0;
    GD_TRY(gd_tokenizer_encode(prepare->tokenizer, part.bytes, part.count, false, ids));
    if (part.ends_document && eot >= 0) GD_TRY(gd_ids_append(ids, &eot, 1));
    if (ids->count) GD_TRY(put(files[0], paths[0], ids->ids, sizeof *ids->ids, ids->count));
    unit->tokens += (int64_t)ids->count;
    unit->bytes += (int64_t)part.count;
    gd_prepare_tell(prepare, prepare->input_done + gd_corpus_done(corpus));
    if (!part.ends_document) continue;
    GD_TRY(put(files[1], paths[1], &unit->tokens, sizeof unit->tokens, 1));
    unit->documents++;
  }
}

static gd_status encode_unit(gd_prepare *prepare, int64_t index, gd_ids *ids) {
  static const char *const kinds[2] = {"ids", "ends"};
  const gd_corpus_unit *plan = &prepare->plan[index];
  const char *input = prepare->options->inputs[plan->input];
  char paths[2][GD_PATH_BYTES];
  FILE *files[2] = {NULL, NULL};
  gd_corpus *corpus = NULL;
  gd_status status = GD_OK;
  for (int i = 0; status == GD_OK && i < 2; i++) {
    status = gd_prepare_unit_path(prepare, index, kinds[i], paths[i]);
    if (status == GD_OK) files[i] = fopen(paths[i], "wbe");
    if (status == GD_OK && !files[i]) status = gd_fail(GD_IO, "cannot create %s: %s", paths[i], strerror(errno));
  }
  if (status == GD_OK) status = gd_corpus_open(input, &prepare->corpus, plan->begin, plan->end, &corpus);
  if (status == GD_OK) {
    status = encode_parts(prepare, corpus, &prepare->units[index], ids, files, paths);
    if (status == GD_BAD_DATA && !strstr(gd_error_text(), input)) status = gd_error_context(status, "in %s", input);
  }
  gd_corpus_close(corpus);
  for (int i = 0; i < 2; i++)
    if (files[i] && fclose(files[i]) && status == GD_OK)
      status = gd_fail(GD_IO, "cannot write %s: %s", paths[i], strerror(errno));
  return status;
}

static gd_status encode_all(gd_prepare *prepare, gd_prepare_report *report) {
  gd_ids ids = {0};
  start_progress(prepare);
  gd_status status = GD_OK;
  for (int64_t u = prepare->rank; status == GD_OK && u < prepare->unit_count; u += prepare->ranks) {
    gd_session_progress(prepare->session, "encode", u);
    status = encode_unit(prepare, u, &ids);
    prepare->input_done += unit_bytes(prepare, u); /* means nothing where a size is not known */
  }
  gd_ids_free(&ids);
  GD_TRY(gd_session_agree(prepare->session, status));
  GD_TRY(gd_prepare_sum(prepare, (int64_t *)prepare->units,
                        prepare->unit_count * (int64_t)(sizeof *prepare->units / sizeof(int64_t))));
  for (int64_t u = 0; u < prepare->unit_count; u++) {
    prepare->tokens += prepare->units[u].tokens;
    prepare->documents += prepare->units[u].documents;
    report->bytes += prepare->units[u].bytes;
    report->dropped_empty += prepare->units[u].dropped;
  }
  if (!prepare->documents)
    return gd_fail_user(GD_BAD_DATA, "the inputs hold no text, the first is %s", prepare->options->inputs[0]);
  return GD_OK;
}

/* ---- the folders ---- */

/* Rank 0: checks the output and makes the work folder. */
static gd_status make_work(gd_prepare *prepare) {
  const char *output = prepare->options->output;
  if (!prepare->options->force && access(output, F_OK) == 0)
    return gd_fail_user(GD_USAGE, "%s: exists already; --force replaces it", output);
  size_t length = strlen(output);
  while (length > 1 && output[length - 1] == '/') length--;
  int put = snprintf(prepare->work, sizeof prepare->work, "%.*s.tmp-%lld-%d", (int)length, output, (long long)time(NULL),
                     (int)getpid());
  if (put < 0 || (size_t)put >= sizeof prepare->work - 64) return gd_fail_user(GD_USAGE, "%s: the path is too long", output);
  GD_TRY(gd_folder_make(prepare->work));
  return GD_OK;
}

/* Rank 0: removes the unit files, writes the tokenizer and puts the work folder in the place of the output. */
static gd_status publish(const gd_prepare *prepare) {
  char path[GD_PATH_BYTES], old[GD_PATH_BYTES + 8], output[GD_PATH_BYTES];
  for (int64_t u = 0; prepare->options->task.kind == GD_TASK_LM && u < prepare->unit_count; u++) {
    GD_TRY(gd_prepare_unit_path(prepare, u, "ids", path));
    GD_TRY(gd_folder_remove(path));
    GD_TRY(gd_prepare_unit_path(prepare, u, "ends", path));
    GD_TRY(gd_folder_remove(path));
  }
  GD_TRY(gd_path_join(path, sizeof path, prepare->work, "tokenizer"));
  GD_TRY(gd_tokenizer_save(prepare->tokenizer, path));
  GD_TRY(gd_folder_sync(prepare->work));
  snprintf(output, sizeof output, "%s", prepare->options->output);
  size_t length = strlen(output);
  while (length > 1 && output[length - 1] == '/') output[--length] = 0;
  snprintf(old, sizeof old, "%s.old", prepare->work);
  bool replace = access(output, F_OK) == 0;
  if (replace && !prepare->options->force)
    return gd_fail_user(GD_USAGE, "%s: came to be meanwhile; --force replaces it", output);
  if (replace && rename(output, old)) return gd_fail(GD_IO, "cannot set %s aside: %s", output, strerror(errno));
  if (rename(prepare->work, output)) {
    gd_status status = gd_fail(GD_IO, "cannot rename %s to %s: %s", prepare->work, output, strerror(errno));
    if (replace && rename(old, output)) return gd_error_context(status, "the former dataset is in %s", old);
    return status;
  }
  const char *slash = strrchr(output, '/');
  snprintf(path, sizeof path, "%.*s", slash ? (int)(slash - output) + 1 : 1, slash ? output : ".");
  GD_TRY(gd_folder_sync(path));
  return replace ? gd_folder_remove(old) : GD_OK;
}

static gd_status open_tokenizer(gd_prepare *prepare) {
  if (strcmp(prepare->options->tokenizer, "chars") != 0) {
    GD_TRY(gd_tokenizer_open(prepare->options->tokenizer, &prepare->tokenizer));
    GD_TRY(gd_prepare_add_specials(prepare));
    prepare->corpus.cut = gd_tokenizer_cuts(prepare->tokenizer);
  } else {
    prepare->corpus.cut = true;
  }
  for (int32_t i = 0; i < prepare->options->input_count; i++)
    if (prepare->ranks > 1 && strcmp(prepare->options->inputs[i], "-") == 0)
      return gd_fail_user(GD_USAGE, "-: standard input is read by one process, found a job of %d ranks", prepare->ranks);
  return gd_corpus_plan(prepare->options->inputs, prepare->options->input_count, &prepare->corpus, &prepare->plan,
                        &prepare->unit_count);
}

static gd_status run(gd_prepare *prepare, gd_prepare_report *report) {
  gd_status status = open_tokenizer(prepare);
  if (status == GD_OK) {
    prepare->units = calloc((size_t)prepare->unit_count + 1, sizeof *prepare->units);
    if (!prepare->units) status = gd_fail(GD_NO_MEMORY, "no memory for %lld units", (long long)prepare->unit_count);
  }
  if (status == GD_OK && prepare->rank == 0) status = make_work(prepare);
  GD_TRY(gd_session_agree(prepare->session, status));
  GD_TRY(gd_session_broadcast(prepare->session, prepare->work, sizeof prepare->work, 0));
  if (prepare->options->task.kind != GD_TASK_LM) {
    GD_TRY(gd_prepare_examples(prepare, report));
  } else {
    if (!prepare->tokenizer) GD_TRY(gd_session_agree(prepare->session, make_chars(prepare)));
    report->vocabulary = gd_tokenizer_vocabulary(prepare->tokenizer);
    GD_TRY(encode_all(prepare, report));
    GD_TRY(gd_prepare_write_splits(prepare, report));
  }
  return gd_session_agree(prepare->session, prepare->rank == 0 ? publish(prepare) : GD_OK);
}

gd_status gd_dataset_prepare(gd_session *session, const gd_prepare_options *options, gd_prepare_report *report) {
  *report = (gd_prepare_report){0};
  gd_prepare prepare = {.session = session,
                        .options = options,
                        .corpus = options->corpus,
                        .rank = gd_session_rank(session),
                        .ranks = gd_session_ranks(session)};
  gd_status status = run(&prepare, report);
  if (status != GD_OK && prepare.rank == 0 && prepare.work[0]) {
    gd_error first;
    gd_error_take(status, &first);
    if (gd_folder_remove(prepare.work) != GD_OK) gd_error_clear(); /* the first fault is the one to tell */
    status = gd_error_raise(&first);
  }
  gd_tokenizer_close(prepare.tokenizer);
  free(prepare.plan);
  free(prepare.units);
  return status;
}
