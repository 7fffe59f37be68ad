/* gptdist_train.c - gptdist-train: trains a transformer: `gptdist-train --config F` on one rank, `mpirun -np N gptdist-train
 * --config F` on many. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/base/lockfile.h"
#include "io/base/sha256.h"
#include "io/tokenizer/tokenizer.h"
#include "launch/console.h"
#include "launch/exit_file.h"
#include "launch/options.h"
#include "launch/precision.h"
#include "launch/signals.h"
#include "launch/train_report.h"
#include "launch/train_spec.h"
#include "shard/base/inject.h"
#include "trainer/kernels.h"

enum { DIGEST_FILE_LIMIT = 1 << 20 };

/* Of the data, as hexadecimal text; "": there is none. */
typedef struct digests {
  char training[GD_SHA256_HEX_BYTES], validation[GD_SHA256_HEX_BYTES];
} digests;

typedef struct train {
  gd_command_line line;
  const char *resume_text;
  gd_resume resume;
  gd_option_texts allow, inject;
  char allow_change[2048]; /* all of them, with commas between */
  int64_t max_time_s;
  bool dry_run;
  int64_t plan_ranks; /* --ranks; 0 = as many as there are */
  gd_session *session;
  gd_device *device;
  gd_spec spec;
  gd_config_origins origins;
  gd_dataset *data, *validation;
  gd_lockfile *lock; /* rank 0 */
  bool told;         /* a removed directory could not be made again, and that was said */
  bool ours;         /* rank 0 holds the run directory: any rank may have to write exit.json there */
  bool locked_out;   /* rank 0: another run does */
  gd_run run;
  double start; /* gd_machine_seconds() */
} train;

static const char *reason_of(const train *t, gd_status status) {
  static char early[GD_EARLY_BYTES];
  if (status == GD_OK && t->run.stop == GD_STOP_EARLY) {
    gd_train_report_early(&t->run, early);
    return early;
  }
  return status == GD_OK ? "done" : status == GD_REQUEUE ? "stopped on request, checkpointed" : gd_error_text();
}

/* ---- before any device memory: the run file, the data, the run directory ---- */

/* Rank 0 reads the run file; a mistake is told once, before anything is taken. */
static gd_status load_spec(train *t) {
  gd_spec *spec = &t->spec;
  GD_TRY(gd_config_check_allowed(t->allow_change));
  GD_TRY(gd_train_spec_load(&t->line, &t->resume, spec, &t->origins));
  if (t->max_time_s > 0) spec->run.max_time_s = t->max_time_s;
  if (!spec->run.directory[0])
    return gd_fail_user(GD_USAGE, "run.directory: not set; say where the run keeps its files (--set run.directory=runs/first)");
  if (!spec->data.sources)
    return gd_fail_user(GD_USAGE, "data.path: not set; name a dataset folder made by gptdist-data prepare");
  return GD_OK;
}

/* Every rank opens the data; the first looks whether their tokenizer, which every checkpoint takes along, is whole. */
static gd_status open_data(train *t) {
  gd_spec *spec = &t->spec;
  bool first = gd_session_rank(t->session) == 0;
  GD_TRY(gd_train_spec_open_data(spec, &t->resume, &t->origins, first, &t->data));
  GD_TRY(gd_dataset_open_validation(&spec->data, gd_dataset_length(t->data), spec->finetune.pack, &t->validation));
  return first ? gd_tokenizer_check(gd_dataset_tokenizer_folder(t->data), gd_dataset_tokenizer_digest(t->data)) : GD_OK;
}

/* Whether validation data and keys fit the training data. */
static gd_status check_fit(const train *t) {
  if (t->validation) GD_TRY(gd_config_explain(gd_train_spec_check_validation(t->data, t->validation), &t->origins));
  return gd_config_explain(gd_train_spec_check_policy(&t->spec, t->data, t->validation), &t->origins);
}

/* A relative path, or one on a host's own disk, may lead each rank somewhere else. All ranks find the same. */
static gd_status check_same_data(const train *t) {
  int32_t ranks = gd_session_ranks(t->session);
  digests mine = {0}, *all = calloc((size_t)ranks, sizeof *all);
  memcpy(mine.training, gd_dataset_digest(t->data), GD_SHA256_HEX_BYTES);
  if (t->validation) memcpy(mine.validation, gd_dataset_digest(t->validation), GD_SHA256_HEX_BYTES);
  gd_status status = gd_session_agree(t->session, all ? GD_OK : gd_fail(GD_NO_MEMORY, "out of memory for %d ranks", ranks));
  if (status == GD_OK) status = gd_session_all_gather(t->session, &mine, all, sizeof mine);
  for (int32_t r = 1; r < ranks && status == GD_OK; r++) {
    if (memcmp(&all[r], &all[0], sizeof mine) == 0) continue;
    bool training = strcmp(all[r].training, all[0].training) != 0;
    status = gd_fail_user(
        GD_USAGE,
        "data.path: rank %d on %s finds other %s data than rank 0 (digest %.12s, rank 0: %.12s); give all hosts the same", r,
        gd_session_host_of(t->session, r), training ? "training" : "validation", training ? all[r].training : all[r].validation,
        training ? all[0].training : all[0].validation);
  }
  free(all);
  return status;
}

/* Digits in which two digests differ; -1: `text` is none. Those of two data sets differ in 60 of 64, and never in as few as
 * half, so a digest that is nearly the right one is the right one, damaged. */
static int digits_apart(const gd_bytes *text, const char *digest) {
  int apart = 0;
  if (text->count != strlen(digest)) return -1;
  for (size_t i = 0; i < text->count; i++) {
    if (!text->bytes[i] || !strchr("0123456789abcdef", text->bytes[i])) return -1;
    apart += text->bytes[i] != digest[i];
  }
  return apart;
}

static void digest_path(const train *t, char out[GD_PATH_BYTES + 32]) {
  snprintf(out, GD_PATH_BYTES + 32, "%s/data.sha256", t->spec.run.directory);
}

/* What a checkpoint there was for says more than two digests. */
static gd_status refuse_other_data(const train *t, const char *old) {
  gd_checkpoint *checkpoint = NULL;
  gd_status status = gd_resume_peek(&t->resume, t->spec.run.directory, &checkpoint);
  if (status == GD_OK && checkpoint) status = gd_resume_check_data(checkpoint, &t->spec, t->data, false);
  gd_checkpoint_close(checkpoint);
  if (status == GD_USAGE) return status;
  return gd_fail_user(
      GD_USAGE,
      "data.path: run directory %s was started with other data (digest %.12s, now %.12s); choose another run.directory",
      t->spec.run.directory, old, gd_dataset_digest(t->data));
}

/* The same directory must go on with the same data. */
static gd_status check_data_digest(const train *t) {
  char path[GD_PATH_BYTES + 32];
  digest_path(t, path);
  const char *digest = gd_dataset_digest(t->data);
  gd_bytes old = {0};
  gd_path_kind kind;
  GD_TRY(gd_path_look(path, &kind));
  if (kind == GD_PATH_NOTHING) return GD_OK;
  gd_status status = gd_file_read(path, DIGEST_FILE_LIMIT, &old);
  int apart = status == GD_OK ? digits_apart(&old, digest) : 0;
  if (apart < 0)
    status = gd_fail_user(GD_BAD_DATA,
                          "%s: is damaged: found %zu bytes that are no digest, expected 64 hexadecimal digits; remove the file "
                          "if data.path is what this run began with",
                          path, old.count);
  else if (apart > 0 && apart < 32)
    status = gd_fail_user(GD_BAD_DATA,
                          "%s: is damaged: found %s, the digest of the data is %s (%d digits differ, those of other data would "
                          "differ in about 60); remove the file to go on",
                          path, old.bytes, digest, apart);
  else if (apart)
    status = refuse_other_data(t, old.bytes);
  gd_bytes_free(&old);
  return status;
}

/* Rank 0: makes the run directory and takes its lock. */
static gd_status open_directory(train *t) {
  char path[GD_PATH_BYTES + 32];
  const char *directory = t->spec.run.directory;
  GD_TRY(gd_folder_make(directory));
  t->locked_out = true;
  GD_TRY(gd_lockfile_take(directory, &t->lock));
  t->locked_out = false;
  gd_exit_file_begin(directory);
  GD_TRY(check_data_digest(t));
  snprintf(path, sizeof path, "%s/log", directory);
  GD_TRY(gd_folder_make(path));
  return GD_OK;
}

/* Rank 0, once nothing is left to refuse: which data this run began with, and the resolved run file. A start that is refused
 * for its data leaves no note of them. */
static gd_status write_notes(const train *t) {
  char path[GD_PATH_BYTES + 32];
  const char *digest = gd_dataset_digest(t->data);
  gd_path_kind kind;
  digest_path(t, path);
  GD_TRY(gd_path_look(path, &kind));
  if (kind == GD_PATH_NOTHING) GD_TRY(gd_file_replace(path, digest, strlen(digest)));
  char *text = malloc(GD_CONFIG_TEXT_BYTES);
  if (!text) return gd_fail(GD_NO_MEMORY, "no memory for the run file");
  size_t bytes = gd_config_write(&t->spec, text, GD_CONFIG_TEXT_BYTES);
  snprintf(path, sizeof path, "%s/config.yaml", t->spec.run.directory);
  /* The same line again needs no room on a full disk. */
  gd_bytes old = {0};
  bool same = gd_file_exists(path) && gd_file_read(path, GD_CONFIG_TEXT_BYTES, &old) == GD_OK && old.count == bytes &&
              memcmp(old.bytes, text, bytes) == 0;
  gd_error_clear();
  gd_status status = same ? GD_OK : gd_file_replace(path, text, bytes);
  gd_bytes_free(&old);
  free(text);
  return status;
}

/* Rank 0 plans for as many ranks as asked for, with this machine's threads; one process does. */
static gd_status print_plan(train *t) {
  int32_t ranks = t->plan_ranks ? (int32_t)t->plan_ranks : gd_session_ranks(t->session);
  GD_TRY(gd_config_check_allowed(t->allow_change));
  GD_TRY(gd_train_spec_plan(&t->line, &t->resume, ranks, &t->spec, &t->origins));
  if (!t->spec.run.threads) t->spec.run.threads = gd_session_threads(t->session);
  return gd_train_report_plan(&t->spec, ranks, t->line.json);
}

/* A job that gptdist-run starts again after a fault has had those that it rehearses. */
static bool is_rehearsed(void) {
  const char *before = getenv(GD_LAUNCH_RESTART);
  return before && strtol(before, NULL, 10) > 0;
}

/* Arms --inject. Paths are compared as the system has them. */
static gd_status arm_faults(const train *t) {
  static char directory[PATH_MAX];
  if (gd_inject_count() == 0 || is_rehearsed()) return GD_OK;
  if (!realpath(t->spec.run.directory, directory))
    return gd_fail(GD_IO, "cannot look at %s: %s", t->spec.run.directory, strerror(errno));
  gd_inject_arm(gd_session_rank(t->session), directory);
  return GD_OK;
}

static gd_status prepare(train *t) {
  gd_session *session = t->session;
  bool first = gd_session_rank(session) == 0;
  if (t->dry_run) return gd_session_agree(session, first ? print_plan(t) : GD_OK);
  if (t->plan_ranks)
    return gd_fail_user(GD_USAGE, "--ranks: for --dry-run only; a run has the ranks that mpirun or gptdist-run -n starts");
  gd_session_set_watchdog(session, GD_DEADLINE_LEAST_S); /* until the run file says otherwise */
  GD_TRY(gd_session_agree(session, first ? load_spec(t) : GD_OK));
  GD_TRY(gd_session_broadcast(session, &t->spec, sizeof t->spec, 0));
  gd_session_set_watchdog(session, t->spec.run.watchdog_s < 0 ? GD_DEADLINE_LEAST_S : t->spec.run.watchdog_s);
  GD_TRY(gd_session_agree(session, open_data(t)));
  GD_TRY(check_same_data(t));
  GD_TRY(gd_session_agree(session, check_fit(t)));
  gd_dataset *const datasets[] = {t->data, t->validation};
  if (!t->spec.run.threads) t->spec.run.threads = gd_session_threads(session);
  GD_TRY(gd_session_agree(session, gd_train_spec_resolve(&t->spec, &t->origins, gd_session_ranks(session))));
  GD_TRY(gd_session_agree(session, first ? open_directory(t) : GD_OK));
  t->ours = true;
  char path[GD_PATH_BYTES + 64];
  snprintf(path, sizeof path, "%s/log/rank-%05d.log", t->spec.run.directory, gd_session_rank(session));
  GD_TRY(gd_session_agree(session, gd_console_log_file(path)));
  snprintf(path, sizeof path, "%s/log", t->spec.run.directory);
  gd_session_set_log_place(session, path);
  GD_TRY(gd_session_agree(session, arm_faults(t)));
  return gd_dataset_check(session, datasets, 2, GD_DATASET_CHECK_SECONDS);
}

/* ---- the run ---- */

static gd_stop stop_requested(void *context) {
  const train *t = context;
  if (gd_signals_pending()) return GD_STOP_REQUESTED;
  if (t->spec.run.max_time_s > 0 && gd_machine_seconds() - t->start >= (double)t->spec.run.max_time_s) return GD_STOP_TIME;
  return GD_STOP_NONE;
}

/* A rehearsal in which a fault did not happen has shown nothing. */
static gd_status check_faults(const train *t) {
  int32_t count = is_rehearsed() ? 0 : gd_inject_count(), ranks = gd_session_ranks(t->session);
  gd_status status = GD_OK;
  uint8_t mine[GD_INJECT_MOST] = {0}, *all = malloc((size_t)ranks * GD_INJECT_MOST);
  if (!all) return gd_fail(GD_NO_MEMORY, "no memory for what %d ranks say", ranks);
  for (int32_t i = 0; i < count; i++) mine[i] = gd_inject_struck(i);
  gd_inject_tell();
  if (count) status = gd_session_all_gather(t->session, mine, all, sizeof mine);
  for (int32_t i = 0; status == GD_OK && i < count; i++) {
    bool struck = false;
    for (int32_t r = 0; r < ranks; r++) struck = struck || all[r * GD_INJECT_MOST + i];
    if (!struck)
      status =
          gd_fail_user(GD_NO, "--inject %s: never happened in this run, which has shown nothing of it", gd_inject_at(i)->text);
  }
  free(all);
  return status;
}

/* All of it, or nothing, and the next step tries again. */
static gd_status take_again(train *t) {
  char path[GD_PATH_BYTES + 32];
  const char *directory = t->spec.run.directory;
  gd_lockfile *lock = 0;
  GD_TRY(gd_folder_make(directory));
  GD_TRY(gd_lockfile_take(directory, &lock));
  gd_status status = check_data_digest(t);
  snprintf(path, sizeof path, "%s/log", directory);
  if (status == GD_OK) status = gd_folder_make(path);
  if (status == GD_OK) status = gd_lockfile_begin(lock);
  if (status == GD_OK) status = write_notes(t);
  if (status != GD_OK) {
    gd_lockfile_release(lock);
    return status;
  }
  gd_lockfile_release(t->lock);
  t->lock = lock;
  t->ours = true;
  gd_exit_file_begin(t->spec.run.directory);
  return GD_OK;
}

static gd_status leave_to_other(const char *what) {
  return gd_fail_user(GD_USAGE,
                      "%s while this run worked there, and another run has begun in its place: this one stops and leaves it "
                      "alone",
                      what);
}

/* Rank 0, each step and before a save gets its name: a run directory that was removed under the run is made again, so that the
 * work goes on, and so is a lock that was removed alone, also where a start took it and ended before it began; one in which
 * another run began meanwhile is no longer this one's. */
static gd_status keep_directory(void *context) {
  train *t = context;
  gd_lockfile_state state = t->lock ? gd_lockfile_look(t->lock) : GD_LOCKFILE_HELD;
  if (state == GD_LOCKFILE_HELD) return GD_OK;
  const char *directory = t->spec.run.directory;
  t->ours = false;
  const bool stays = gd_lockfile_folder_stays(t->lock);
  char what[GD_PATH_BYTES + 128];
  snprintf(what, sizeof what, stays ? "the lock of run directory %s was removed" : "run directory %s was removed or moved away",
           directory);
  if (state == GD_LOCKFILE_REPLACED) return leave_to_other(what);
  gd_status status = take_again(t);
  if (status == GD_USAGE) return status; /* a folder of other data */
  if (status != GD_OK && gd_lockfile_look(t->lock) == GD_LOCKFILE_REPLACED) return leave_to_other(what); /* it came between */
  if (status != GD_OK && !t->told) gd_log_fault(GD_LOG_WARNING, "%s while this run worked there: %s", what, gd_error_text());
  t->told = status != GD_OK;
  if (status == GD_OK)
    gd_log(GD_LOG_WARNING, "%s while this run worked there: %s", what,
           stays ? "it is locked again, and nothing else is changed"
                 : "it was made again for its next checkpoints; older ones, metrics and logs are not there");
  else
    gd_error_clear();
  return GD_OK;
}

static gd_status loop(train *t, gd_train_report *report) {
  gd_run_event event;
  do {
    GD_TRY(gd_run_next(&t->run, &event));
    GD_TRY(keep_directory(t));
    if (event.kind == GD_EVENT_STEP) gd_signals_set_saved(false);
    if (event.kind == GD_EVENT_SAVED) gd_signals_set_saved(event.step == t->run.state.step);
    if (report) gd_session_storage(t->session, "report", event.step);
    if (report) GD_TRY(gd_train_report_event(report, &event));
  } while (event.kind != GD_EVENT_END);
  return event.stop == GD_STOP_DONE || event.stop == GD_STOP_EARLY ? GD_OK : GD_REQUEUE;
}

/* 0: not known. */
static double peak_of_rank(const train *t) {
  gd_dtype dtype = t->spec.precision.dtype;
  if (t->device->model[0]) return gd_gpu_peak_flops(t->device->model, dtype);
  return gd_kernels_peak_flops(dtype, t->spec.run.threads);
}

static gd_status train_run(train *t) {
  gd_run_options options = {.resume = t->resume, .stop_requested = stop_requested, .guard = keep_directory, .context = t};
  gd_train_report *report = 0;
  options.allowed_changes = t->allow_change;
  GD_TRY(gd_session_open_device(t->session, &t->spec, &t->device));
  bool invariant = t->spec.numerics == GD_NUMERICS_INVARIANT;
  GD_TRY(gd_precision_settle(t->session, t->device, invariant, &t->spec));
  GD_TRY(gd_run_open(t->session, t->device, &t->spec, t->data, t->validation, &options, &t->run));
  if (gd_session_rank(t->session) == 0) {
    GD_TRY(gd_lockfile_begin(t->lock));
    GD_TRY(write_notes(t));
    GD_TRY(gd_train_report_open(&t->run, peak_of_rank(t) * gd_session_ranks(t->session), t->line.json, &report));
  }
  gd_status status = loop(t, report);
  if (report) gd_train_report_close(report);
  return status;
}

static void exit_hook(void *context, gd_status code, const char *text) {
  const train *t = context;
  if (t->ours) gd_exit_file_end(t->spec.run.directory, (int)code, text);
}

/* A start that was refused. Where that was before it held its run directory the word of an earlier start still stands there. */
static void tell_refused(const train *t, int code) {
  char reason[sizeof((gd_error *)0)->text];
  const char *directory = t->spec.run.directory;
  snprintf(reason, sizeof reason, "%s", gd_error_text());
  if (t->lock)
    gd_exit_file_end(directory, code, reason);
  else if (gd_session_rank(t->session) == 0 && !t->dry_run && !t->locked_out && *directory)
    gd_exit_file_replace(directory, NULL, code, reason);
}

static gd_resume read_resume(const char *text) {
  gd_resume_kind kind = !strcmp(text, "auto") ? GD_RESUME_AUTO : !strcmp(text, "none") ? GD_RESUME_NONE : GD_RESUME_FROM;
  return (gd_resume){kind, text};
}

static gd_status join_allowed(train *t) {
  size_t used = 0;
  for (int i = 0; i < t->allow.count; i++) {
    used += (size_t)snprintf(t->allow_change + used, sizeof t->allow_change - used, "%s%s", i ? "," : "", t->allow.text[i]);
    if (used >= sizeof t->allow_change) return gd_fail_user(GD_USAGE, "--allow-change: the list of keys is too long");
  }
  return GD_OK;
}

static gd_status read_faults(const train *t) {
  for (int i = 0; i < t->inject.count; i++) GD_TRY(gd_inject_add(t->inject.text[i]));
  return GD_OK;
}

static void close_all(train *t) {
  gd_run_close(&t->run);
  if (t->data) gd_dataset_close(t->data);
  if (t->validation) gd_dataset_close(t->validation);
  if (t->lock) gd_lockfile_release(t->lock);
}

int main(int argc, char **argv) {
  static train t; /* large: the spec and all origins */
  t.resume_text = "auto";
  t.start = gd_machine_seconds();
  const gd_option options[] = {
      {"--resume", GD_OPTION_TEXT, &t.resume_text, "auto|none|DIR",
       "auto: go on from the newest checkpoint of run.directory; DIR: also RUN@best, RUN@last, RUN@STEP", 0, 0},
      {"--allow-change", GD_OPTION_TEXTS, &t.allow, "KEY[,KEY]", "resume though these keys differ, and numbers with them", 0,
       0},
      {"--max-time", GD_OPTION_SECONDS, &t.max_time_s, "T", "stop, save and leave with 75 after T (90s, 30m, 2h)", 0, 0},
      {"--inject", GD_OPTION_TEXTS, &t.inject, "KIND@KEY=VALUE,...", "rehearse a fault; see below", 0, 0},
      {"--dry-run", GD_OPTION_FLAG, &t.dry_run, 0, "print layout, step table, memory, and stop; needs no data", 0, 0},
      {"--ranks", GD_OPTION_INTEGER, &t.plan_ranks, "N", "--dry-run: plan for N ranks, from this one process", 1, 1e6},
      {0},
  };
  static char more[4096];
  snprintf(more, sizeof more, "Under mpirun every rank runs this same line; gptdist-run builds a good mpirun line.\n\n%s",
           gd_inject_help());
  const gd_program program = {
      .name = "gptdist-train",
      .purpose = "trains a transformer",
      .usage =
          "--config F [--set section.key=value]... [--resume auto|none|DIR] [--allow-change KEY]\n       [--max-time T] "
          "[--dry-run [--ranks N]] [--inject KIND@KEY=VALUE,...]...",
      .more = more,
      .options = options,
      .takes_config = true};
  gd_launch_environment environment;
  bool done = false;
  gd_session_environment(&environment);
  gd_console_open("gptdist-train", environment.rank);
  gd_status status = gd_options_parse(&program, argc, argv, &t.line, &done);
  t.resume = read_resume(t.resume_text);
  if (status == GD_OK) status = join_allowed(&t);
  if (status == GD_OK) status = read_faults(&t);
  if (status != GD_OK || done) return gd_console_leave(status, false);
  status = gd_signals_install();
  if (status == GD_OK) status = gd_signals_install_losses();
  if (status == GD_OK) status = gd_session_open(&t.session);
  if (status != GD_OK) return gd_console_leave(status, true);
  gd_console_connect(t.session);
  gd_session_set_exit_hook(t.session, exit_hook, &t);
  status = prepare(&t);
  if (status != GD_OK) {
    /* All ranks agreed on it, so all leave in order, and rank 0 tells. */
    int code = gd_console_leave(status, false);
    tell_refused(&t, code);
    close_all(&t);
    gd_console_connect(NULL);
    gd_session_close(t.session);
    return code;
  }
  if (!t.dry_run) {
    status = train_run(&t);
    if (status == GD_OK || status == GD_REQUEUE) {
      gd_status faults = check_faults(&t);
      if (faults != GD_OK) status = faults;
      if (faults == GD_NO && gd_session_rank(t.session) == 0) gd_log(GD_LOG_ERROR, "%s", gd_error_text());
    }
    if (status != GD_OK && status != GD_REQUEUE && status != GD_NO) gd_session_abort(t.session, status, gd_error_text());
    if (gd_session_rank(t.session) == 0) gd_exit_file_end(t.spec.run.directory, (int)status, reason_of(&t, status));
  }
  close_all(&t);
  gd_console_connect(NULL);
  gd_session_close(t.session);
  gd_console_close();
  return (int)status;
}
