/* save.c - a checkpoint written beside the training: snapshot, the thread that writes it, publishing. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/machine.h"
#include "io/checkpoint/file.h"
#include "io/checkpoint/folder.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"

enum { TOKENIZER_FILE_LIMIT = 1 << 30 };

struct gd_checkpoint_writer {
  gd_session *session; /* NULL: one process */
  int32_t rank, ranks;
  char directory[GD_PATH_BYTES], tokenizer_directory[GD_PATH_BYTES];
  gd_spec spec;
  gd_mesh mesh;
  char tokenizer_digest[GD_SHA256_HEX_BYTES]; /* "" where nobody said */
  char kernels[32];                           /* the table that computes; "" where nobody said */
  gd_checkpoint_guard *guard;                 /* NULL: none */
  void *guarded;
  gd_tensor *tensors;
  int32_t tensor_count;
  /* The save in flight. */
  bool busy, threaded;
  atomic_bool done;
  pthread_t thread;
  char temporary[GD_PATH_BYTES];
  gd_run_state state;
  gd_checkpoint_box *boxes;
  gd_stored_box *stored;
  int32_t count;
  gd_manifest_file file;
  gd_manifest_file *tokenizer; /* rank 0 */
  int32_t tokenizer_count;
  gd_data_task task;
  gd_base base;
  gd_error error;
};

static gd_status agree(gd_checkpoint_writer *writer, gd_status mine) {
  return writer->session ? gd_session_agree(writer->session, mine) : mine;
}

/* ---- open, close ---- */

static gd_status prepare_folder(const char *directory) {
  GD_TRY(gd_folder_make(directory));
  if (access(directory, W_OK | X_OK)) return gd_fail(GD_IO, "cannot write in the folder %s: %s", directory, strerror(errno));
  return gd_checkpoint_sweep(directory);
}

static gd_status make_writer(gd_session *session, const char *directory, const gd_spec *spec, const gd_mesh *mesh,
                             const gd_tensor *tensors, int32_t tensor_count, const char *tokenizer_directory,
                             gd_checkpoint_writer **out) {
  gd_checkpoint_writer *writer = calloc(1, sizeof *writer);
  if (!writer) return gd_fail(GD_NO_MEMORY, "no memory for a checkpoint writer");
  *out = writer;
  writer->session = session;
  writer->rank = session ? gd_session_rank(session) : 0;
  writer->ranks = session ? gd_session_ranks(session) : 1;
  writer->spec = *spec;
  writer->mesh = *mesh;
  writer->tensor_count = tensor_count;
  writer->tensors = malloc(((size_t)tensor_count + 1) * sizeof *writer->tensors);
  if (!writer->tensors) return gd_fail(GD_NO_MEMORY, "no memory for %d tensors", tensor_count);
  memcpy(writer->tensors, tensors, (size_t)tensor_count * sizeof *tensors);
  atomic_init(&writer->done, true);
  GD_TRY(gd_path_join(writer->directory, sizeof writer->directory, directory, ""));
  writer->directory[strlen(writer->directory) - 1] = 0;
  const char *tokenizer = tokenizer_directory ? tokenizer_directory : "";
  if ((size_t)snprintf(writer->tokenizer_directory, GD_PATH_BYTES, "%s", tokenizer) >= GD_PATH_BYTES)
    return gd_fail_user(GD_USAGE, "the path %s is too long", tokenizer);
  return writer->rank == 0 ? prepare_folder(writer->directory) : GD_OK;
}

gd_status gd_checkpoint_writer_open(gd_session *session, const char *directory, const gd_spec *spec, const gd_mesh *mesh,
                                    const gd_tensor *tensors, int32_t tensor_count, const char *tokenizer_directory,
                                    gd_checkpoint_writer **out) {
  gd_checkpoint_writer *writer = NULL;
  *out = NULL;
  gd_status status = make_writer(session, directory, spec, mesh, tensors, tensor_count, tokenizer_directory, &writer);
  if (session) status = gd_session_agree(session, status);
  if (status == GD_OK)
    *out = writer;
  else
    gd_checkpoint_writer_close(writer);
  return status;
}

void gd_checkpoint_writer_set_kernels(gd_checkpoint_writer *writer, const char *name) {
  snprintf(writer->kernels, sizeof writer->kernels, "%s", name);
}

void gd_checkpoint_writer_set_guard(gd_checkpoint_writer *writer, gd_checkpoint_guard *guard, void *context) {
  writer->guard = guard;
  writer->guarded = context;
}

gd_status gd_checkpoint_writer_set_task(gd_checkpoint_writer *writer, const gd_data_task *task) {
  gd_data_task_free(&writer->task);
  return gd_data_task_copy(task, &writer->task);
}

void gd_checkpoint_writer_set_base(gd_checkpoint_writer *writer, const gd_base *base) {
  writer->base = *base;
}

void gd_checkpoint_writer_set_tokenizer(gd_checkpoint_writer *writer, const char *digest) {
  snprintf(writer->tokenizer_digest, sizeof writer->tokenizer_digest, "%s", digest);
}

/* Forgets the save in flight; its thread has ended. */
static void drop_save(gd_checkpoint_writer *writer) {
  free(writer->boxes);
  free(writer->stored);
  free(writer->tokenizer);
  writer->boxes = NULL;
  writer->stored = NULL;
  writer->tokenizer = NULL;
  writer->count = writer->tokenizer_count = 0;
  writer->busy = false;
}

void gd_checkpoint_writer_close(gd_checkpoint_writer *writer) {
  if (!writer) return;
  if (writer->busy) { /* never published: nobody may find it */
    if (writer->threaded) pthread_join(writer->thread, NULL);
    if (gd_folder_remove(writer->temporary) != GD_OK) gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
    drop_save(writer);
  }
  gd_data_task_free(&writer->task);
  free(writer->tensors);
  free(writer);
}

/* ---- the background part: this rank's file, on rank 0 the tokenizer's files too ---- */

static gd_status copy_tokenizer_file(gd_checkpoint_writer *writer, const char *folder, const char *name) {
  char from[GD_PATH_BYTES], to[GD_PATH_BYTES];
  GD_TRY(gd_path_join(from, sizeof from, writer->tokenizer_directory, name));
  GD_TRY(gd_path_join(to, sizeof to, folder, name));
  gd_path_kind kind;
  GD_TRY(gd_path_look(from, &kind));
  if (kind != GD_PATH_FILE) return GD_OK; /* a folder */
  gd_manifest_file *grown = realloc(writer->tokenizer, ((size_t)writer->tokenizer_count + 1) * sizeof *grown);
  if (!grown) return gd_fail(GD_NO_MEMORY, "no memory for a list of files");
  writer->tokenizer = grown;
  gd_manifest_file *file = &grown[writer->tokenizer_count];
  memset(file, 0, sizeof *file);
  if ((size_t)snprintf(file->name, sizeof file->name, "%s", name) >= sizeof file->name)
    return gd_fail_user(GD_USAGE, "%s: a tokenizer file's name has at most %zu bytes", from, sizeof file->name - 1);
  gd_bytes bytes = {0};
  gd_status status = gd_file_read(from, TOKENIZER_FILE_LIMIT, &bytes);
  uint8_t digest[GD_SHA256_BYTES];
  if (status == GD_OK) status = gd_file_write(to, bytes.bytes, bytes.count);
  if (status == GD_OK) status = gd_sha256_bytes(bytes.bytes, bytes.count, file->sha256);
  if (status == GD_OK) status = gd_sha256_file(to, digest, &file->bytes);
  if (status == GD_OK && memcmp(digest, file->sha256, sizeof digest) != 0)
    status = gd_fail(GD_IO, "%s: what the disk holds is not what was written", to);
  gd_bytes_free(&bytes);
  if (status == GD_OK) writer->tokenizer_count++;
  return status;
}

static int compare_files(const void *left, const void *right) {
  return strcmp(((const gd_manifest_file *)left)->name, ((const gd_manifest_file *)right)->name);
}

static gd_status copy_tokenizer(gd_checkpoint_writer *writer) {
  char folder[GD_PATH_BYTES];
  if (!writer->tokenizer_directory[0]) return GD_OK;
  GD_TRY(gd_path_join(folder, sizeof folder, writer->temporary, GD_MANIFEST_TOKENIZER));
  GD_TRY(gd_folder_make(folder));
  DIR *entries = opendir(writer->tokenizer_directory);
  if (!entries)
    return gd_fail(GD_IO, "cannot read the tokenizer's folder %s: %s", writer->tokenizer_directory, strerror(errno));
  struct dirent *entry = NULL;
  gd_status status = GD_OK;
  while (status == GD_OK && (status = gd_folder_next(entries, writer->tokenizer_directory, &entry)) == GD_OK && entry)
    if (entry->d_name[0] != '.') status = copy_tokenizer_file(writer, folder, entry->d_name);
  closedir(entries);
  GD_TRY(status);
  if (writer->tokenizer_count)
    qsort(writer->tokenizer, (size_t)writer->tokenizer_count, sizeof *writer->tokenizer, compare_files);
  /* Of what was copied, so that no later change of the source comes between. */
  if (writer->tokenizer_digest[0]) status = gd_tokenizer_check(folder, writer->tokenizer_digest);
  if (status != GD_OK) return gd_error_context(status, "copied from %s", writer->tokenizer_directory);
  return gd_folder_sync(folder);
}

static gd_status write_mine(gd_checkpoint_writer *writer) {
  char path[GD_PATH_BYTES];
  snprintf(writer->file.name, sizeof writer->file.name, "rank-%05d.h5", writer->rank);
  GD_TRY(gd_path_join(path, sizeof path, writer->temporary, writer->file.name));
  GD_TRY(gd_checkpoint_file_write(path, writer->tensors, writer->tensor_count, writer->boxes, writer->count, NULL,
                                  writer->stored, &writer->file));
  for (int32_t i = 0; i < writer->count; i++) writer->stored[i].file = writer->rank;
  if (writer->rank == 0) GD_TRY(copy_tokenizer(writer));
  return gd_folder_sync(writer->temporary);
}

static void *background(void *context) {
  gd_checkpoint_writer *writer = context;
  gd_error_take(write_mine(writer), &writer->error);
  atomic_store(&writer->done, true);
  return NULL;
}

/* ---- save ---- */

static gd_status not_written(gd_status status, int64_t step) {
  return gd_error_context(status, "the checkpoint of step %" PRId64 " was not written; older ones are untouched", step);
}

static gd_status start_save(gd_checkpoint_writer *writer, const gd_checkpoint_box *boxes, int32_t count) {
  writer->count = count;
  writer->boxes = malloc(((size_t)count + 1) * sizeof *writer->boxes);
  writer->stored = calloc((size_t)count + 1, sizeof *writer->stored);
  if (!writer->boxes || !writer->stored) return gd_fail(GD_NO_MEMORY, "no memory for a list of %d boxes", count);
  memcpy(writer->boxes, boxes, (size_t)count * sizeof *boxes);
  return writer->rank == 0 ? gd_folder_make(writer->temporary) : GD_OK;
}

gd_status gd_checkpoint_save(gd_checkpoint_writer *writer, const gd_run_state *state, const gd_checkpoint_box *boxes,
                             int32_t count) {
  int64_t earlier;
  GD_TRY(gd_checkpoint_finish(writer, &earlier));
  char name[32], id[32];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(id, sizeof id, "%x%08lx", (unsigned)getpid(), (unsigned long)now.tv_nsec ^ (unsigned long)now.tv_sec << 30);
  if (writer->session) GD_TRY(gd_session_broadcast(writer->session, id, sizeof id, 0));
  gd_checkpoint_step_name(state->step, name);
  writer->state = *state;
  int length = snprintf(writer->temporary, sizeof writer->temporary, "%s/%s.tmp-%s", writer->directory, name, id);
  gd_status status = length < 0 || (size_t)length >= sizeof writer->temporary
                         ? gd_fail_user(GD_USAGE, "the path %s is too long", writer->directory)
                         : start_save(writer, boxes, count);
  status = agree(writer, status);
  if (status != GD_OK) {
    drop_save(writer);
    return not_written(status, state->step);
  }
  writer->busy = true;
  atomic_store(&writer->done, false);
  writer->threaded = false;
  if (writer->spec.checkpoint.background) {
    /* Where there is no thread to be had the save takes place here. */
    writer->threaded = gd_machine_thread(&writer->thread, background, writer, "the writer's thread") == GD_OK;
    if (!writer->threaded) gd_error_clear();
  }
  if (!writer->threaded) background(writer);
  return GD_OK;
}

bool gd_checkpoint_idle(const gd_checkpoint_writer *writer) {
  return !writer->busy || atomic_load(&writer->done);
}

/* ---- finish ---- */

/* What rank 0 needs of each rank besides its boxes. */
typedef struct rank_report {
  gd_manifest_file file;
  int32_t boxes, reserved;
} rank_report;

/* All ranks' files and boxes into the manifest. Collective; every rank gets its copy and rank 0 uses it. */
static gd_status gather(gd_checkpoint_writer *writer, gd_manifest *manifest) {
  rank_report mine = {writer->file, writer->count, 0}, *reports = calloc((size_t)writer->ranks, sizeof *reports);
  gd_stored_box *padded = NULL, *everyone = NULL;
  int32_t most = 0, total = 0;
  gd_status status = reports ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %d reports", writer->ranks);
  GD_TRY_GOTO(status, done, agree(writer, status));
  if (writer->session)
    GD_TRY_GOTO(status, done, gd_session_all_gather(writer->session, &mine, reports, sizeof mine));
  else
    reports[0] = mine;
  for (int32_t r = 0; r < writer->ranks; r++) {
    if (reports[r].boxes > most) most = reports[r].boxes;
    total += reports[r].boxes;
  }
  padded = calloc((size_t)most + 1, sizeof *padded);
  everyone = calloc((size_t)most * (size_t)writer->ranks + 1, sizeof *everyone);
  manifest->files = calloc((size_t)writer->ranks, sizeof *manifest->files);
  manifest->boxes = calloc((size_t)total + 1, sizeof *manifest->boxes);
  if (!padded || !everyone || !manifest->files || !manifest->boxes)
    status = gd_fail(GD_NO_MEMORY, "no memory for a table of %d boxes", total);
  GD_TRY_GOTO(status, done, agree(writer, status));
  memcpy(padded, writer->stored, (size_t)writer->count * sizeof *padded);
  if (writer->session)
    GD_TRY_GOTO(status, done, gd_session_all_gather(writer->session, padded, everyone, (size_t)most * sizeof *padded));
  else
    memcpy(everyone, padded, (size_t)most * sizeof *padded);
  manifest->file_count = writer->ranks;
  for (int32_t r = 0; r < writer->ranks; r++) {
    manifest->files[r] = reports[r].file;
    memcpy(manifest->boxes + manifest->box_count, everyone + (size_t)r * (size_t)most,
           (size_t)reports[r].boxes * sizeof *padded);
    manifest->box_count += reports[r].boxes;
  }
done:
  free(reports);
  free(padded);
  free(everyone);
  return status;
}

/* Newest K (the newest always), the best (as marked, and as the saved state has it), the one just published and, where asked
 * for, that of step 0 stay. Old ones go only here, behind the publication of a newer one whose bytes were read back from the
 * disk, or of a better one. A failure to delete is no fault of that checkpoint.
 */
static void remove_old(const gd_checkpoint_writer *writer, int64_t published) {
  int64_t *steps = NULL, best;
  int32_t count = 0;
  gd_status status = gd_checkpoint_hint(writer->directory, "BEST", &best); /* not known which is the best: none is removed */
  if (status == GD_OK) status = gd_checkpoint_list(writer->directory, &steps, &count, NULL);
  for (int32_t i = 0; status == GD_OK && i < count; i++) {
    bool first = writer->spec.checkpoint.at_start && steps[i] == 0;
    if (i == 0 || i < writer->spec.checkpoint.keep || steps[i] == best || steps[i] == writer->state.best_step ||
        steps[i] == published || first)
      continue;
    status = gd_checkpoint_remove(writer->directory, steps[i]);
  }
  if (status != GD_OK) gd_log_fault(GD_LOG_WARNING, "old checkpoints could not be removed: %s", gd_error_text());
  free(steps);
}

/* A run that was taken back to an older step leaves the later checkpoints of its first try: a resume must not find them, so
 * they go before the new one gets its name. */
static gd_status set_later_aside(const gd_checkpoint_writer *writer, int64_t published) {
  int64_t *steps = NULL, best = -1;
  int32_t count = 0;
  gd_status status = gd_checkpoint_list(writer->directory, &steps, &count, NULL);
  if (status == GD_OK && count && steps[0] > published) status = gd_checkpoint_hint(writer->directory, "BEST", &best);
  if (status == GD_OK && best > published) status = gd_checkpoint_set_hint(writer->directory, "BEST", -1);
  for (int32_t i = 0; status == GD_OK && i < count && steps[i] > published; i++) {
    char path[GD_PATH_BYTES], renamed[GD_PATH_BYTES], name[32];
    gd_checkpoint_step_name(steps[i], name);
    status = gd_path_join(path, sizeof path, writer->directory, name);
    if (status == GD_OK) status = gd_checkpoint_set_aside(path, "old", renamed);
    if (status == GD_OK)
      gd_log(GD_LOG_WARNING, "%s is later than step %" PRId64 ", which is saved now, and is set aside as %s", path, published,
             strrchr(renamed, '/') + 1);
  }
  if (status == GD_OK && count && steps[0] > published) status = gd_folder_sync(writer->directory);
  free(steps);
  return status;
}

/* The hint files. BEST follows the state, too: a kill may have come between a save and its mark. */
static gd_status set_hints(const gd_checkpoint_writer *writer) {
  char path[GD_PATH_BYTES], name[32];
  int64_t marked, best = writer->state.best_step;
  gd_path_kind kind = GD_PATH_NOTHING;
  GD_TRY(gd_checkpoint_set_hint(writer->directory, "LATEST", writer->state.step));
  GD_TRY(gd_checkpoint_hint(writer->directory, "BEST", &marked));
  if (best < 0 || best == marked) return GD_OK;
  gd_checkpoint_step_name(best, name);
  GD_TRY(gd_path_join(path, sizeof path, writer->directory, name));
  GD_TRY(gd_path_look(path, &kind));
  return kind == GD_PATH_FOLDER ? gd_checkpoint_set_hint(writer->directory, "BEST", best) : GD_OK;
}

/* Rank 0: manifest, rename, hints. Does not own the writer's tensors. */
static gd_status publish(gd_checkpoint_writer *writer, gd_manifest *manifest) {
  manifest->numbers_version = GD_NUMBERS_VERSION;
  manifest->task = writer->task; /* lent */
  manifest->base = writer->base;
  snprintf(manifest->gptdist_version, sizeof manifest->gptdist_version, "%s", GPTDIST_VERSION);
  gethostname(manifest->host, sizeof manifest->host - 1);
  snprintf(manifest->isa, sizeof manifest->isa, "%s", writer->kernels);
  gd_checkpoint_file_library(manifest->hdf5_version);
  manifest->spec = writer->spec;
  manifest->mesh = writer->mesh;
  manifest->state = writer->state;
  manifest->tensor_count = writer->tensor_count;
  manifest->tokenizer_count = writer->tokenizer_count;
  manifest->tensors = writer->tensors;
  manifest->tokenizer = writer->tokenizer;
  gd_status status;
  status = gd_manifest_check_boxes(manifest);
  if (status == GD_BAD_DATA) status = gd_error_context(GD_BUG, "the boxes given to a save do not cover the model");
  if (status != GD_OK) goto done;
  GD_TRY_GOTO(status, done, gd_manifest_write(manifest, writer->temporary));
  if (writer->guard) GD_TRY_GOTO(status, done, writer->guard(writer->guarded));
  GD_TRY_GOTO(status, done, set_later_aside(writer, writer->state.step));
  GD_TRY_GOTO(status, done, gd_checkpoint_publish(writer->directory, writer->temporary, writer->state.step));
  if (set_hints(writer) != GD_OK) gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
  remove_old(writer, writer->state.step);
done:
  manifest->task = (gd_data_task){0};
  manifest->tensors = NULL;
  manifest->tokenizer = NULL;
  return status;
}

gd_status gd_checkpoint_finish(gd_checkpoint_writer *writer, int64_t *step) {
  *step = -1;
  if (!writer->busy) return GD_OK;
  if (writer->threaded) pthread_join(writer->thread, NULL);
  writer->threaded = false;
  gd_manifest manifest = {0};
  gd_status status = agree(writer, gd_error_raise(&writer->error));
  if (status == GD_OK) status = gather(writer, &manifest);
  if (status == GD_OK) status = agree(writer, writer->rank == 0 ? publish(writer, &manifest) : GD_OK);
  if (status == GD_OK) {
    *step = writer->state.step;
  } else {
    gd_error fault;
    gd_error_take(status, &fault);
    if (writer->rank == 0 && gd_folder_remove(writer->temporary) != GD_OK) gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
    /* Nobody leaves before: one rank's end is the end of all, and the half-written folder would stay. */
    (void)agree(writer, GD_OK);
    status = gd_error_raise(&fault);
    (void)not_written(status, writer->state.step);
  }
  gd_manifest_free(&manifest);
  drop_save(writer);
  return status;
}

static gd_status write_best(const gd_checkpoint_writer *writer, int64_t step) {
  char path[GD_PATH_BYTES], name[32];
  gd_path_kind kind;
  gd_checkpoint_step_name(step, name);
  GD_TRY(gd_path_join(path, sizeof path, writer->directory, name));
  GD_TRY(gd_path_look(path, &kind));
  if (kind != GD_PATH_FOLDER) return gd_fail(GD_BUG, "%s is marked as the best and is not there", path);
  GD_TRY(gd_checkpoint_set_hint(writer->directory, "BEST", step));
  remove_old(writer, step); /* the best until now may go */
  return GD_OK;
}

gd_status gd_checkpoint_mark_best(gd_checkpoint_writer *writer, int64_t step) {
  return agree(writer, writer->rank == 0 ? write_best(writer, step) : GD_OK);
}
