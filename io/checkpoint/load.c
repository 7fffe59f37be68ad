/* load.c - which checkpoint a run resumes from, opened and agreed on by all ranks. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/checkpoint/folder.h"
#include "io/checkpoint/internal.h"
#include "io/checkpoint/name.h"
#include "shard/base/log.h"

enum { MANIFEST_LIMIT = 1 << 30 };

static gd_status agree(gd_session *session, gd_status mine) {
  return session ? gd_session_agree(session, mine) : mine;
}
static int32_t my_rank(const gd_session *session) {
  return session ? gd_session_rank(session) : 0;
}

static const char *last_component(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* ---- is it whole ---- */

static gd_status read_small(const char *folder, const char *name, gd_bytes *out) {
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  gd_path_kind kind;
  GD_TRY(gd_path_look(path, &kind));
  if (kind != GD_PATH_FILE) return gd_fail_user(GD_BAD_DATA, "%s: is missing", path);
  return gd_file_read(path, MANIFEST_LIMIT, out);
}

/* Rank 0's bytes on every rank. Collective. */
static gd_status share_bytes(gd_session *session, gd_bytes *bytes) {
  if (!session) return GD_OK;
  uint64_t count = bytes->count;
  GD_TRY(gd_session_broadcast(session, &count, sizeof count, 0));
  GD_TRY(agree(session, my_rank(session) == 0 ? GD_OK : gd_bytes_reserve(bytes, count)));
  bytes->count = count;
  return count ? gd_session_broadcast(session, bytes->bytes, count, 0) : GD_OK;
}

static gd_status read_manifest(gd_session *session, const char *folder, gd_manifest *manifest) {
  gd_bytes bytes = {0}, sums = {0};
  gd_status status = GD_OK;
  if (my_rank(session) == 0) {
    status = read_small(folder, GD_MANIFEST_NAME, &bytes);
    if (status == GD_OK) status = read_small(folder, GD_MANIFEST_SUMS, &sums);
  }
  GD_TRY_GOTO(status, done, agree(session, status));
  GD_TRY_GOTO(status, done, share_bytes(session, &bytes));
  GD_TRY_GOTO(status, done, share_bytes(session, &sums));
  status = agree(session, gd_manifest_open(folder, &bytes, &sums, manifest));
done:
  gd_bytes_free(&bytes);
  gd_bytes_free(&sums);
  return status;
}

static gd_status verify_file(const char *folder, const gd_manifest_file *file) {
  char path[GD_PATH_BYTES], found[GD_SHA256_HEX_BYTES], expected[GD_SHA256_HEX_BYTES];
  uint8_t digest[GD_SHA256_BYTES];
  struct stat info;
  int64_t bytes = 0;
  GD_TRY(gd_path_join(path, sizeof path, folder, file->name));
  if (stat(path, &info)) {
    if (errno == ENOENT || errno == ENOTDIR) return gd_fail_user(GD_BAD_DATA, "%s: is missing", path);
    return gd_fail(GD_IO, "cannot look at %s: %s", path, strerror(errno));
  }
  if (info.st_size != file->bytes)
    return gd_fail_user(GD_BAD_DATA, "%s: has %" PRId64 " bytes, its manifest says %" PRId64, path, (int64_t)info.st_size,
                        file->bytes);
  GD_TRY(gd_sha256_file(path, digest, &bytes));
  if (memcmp(digest, file->sha256, sizeof digest) == 0) return GD_OK;
  gd_sha256_hex(digest, found);
  gd_sha256_hex(file->sha256, expected);
  return gd_fail_user(GD_BAD_DATA, "%s: is damaged: SHA-256 is %s, its manifest says %s", path, found, expected);
}

/* Files are dealt over ranks, each hashed once. */
static gd_status verify_files(gd_session *session, const char *folder, const gd_manifest *manifest) {
  int32_t rank = my_rank(session), ranks = session ? gd_session_ranks(session) : 1;
  char tokenizer[GD_PATH_BYTES];
  GD_TRY(gd_path_join(tokenizer, sizeof tokenizer, folder, GD_MANIFEST_TOKENIZER));
  int32_t files = manifest->file_count + manifest->tokenizer_count;
  for (int32_t i = rank; i < files; i += ranks) {
    if (session) gd_session_storage(session, "verify", manifest->state.step);
    if (i < manifest->file_count)
      GD_TRY(verify_file(folder, &manifest->files[i]));
    else
      GD_TRY(verify_file(tokenizer, &manifest->tokenizer[i - manifest->file_count]));
  }
  return GD_OK;
}

/* A folder that is named after a step holds that step: a resume goes by the names. */
static gd_status check_name(const char *folder, const gd_manifest *manifest) {
  int64_t step = gd_checkpoint_step_of(last_component(folder));
  if (step < 0 || step == manifest->state.step) return GD_OK;
  return gd_fail_user(GD_BAD_DATA,
                      "%s: is named after step %" PRId64 ", but its %s says step %" PRId64
                      "; it was renamed, or is another's copy",
                      folder, step, GD_MANIFEST_NAME, manifest->state.step);
}

/* whole: all its files are hashed. */
static gd_status try_open(gd_session *session, const char *folder, bool whole, gd_checkpoint **out) {
  gd_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
  gd_status status = checkpoint ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for a checkpoint");
  GD_TRY_GOTO(status, done, agree(session, status));
  memcpy(checkpoint->path, folder, GD_PATH_BYTES);
  status = gd_path_join(checkpoint->tokenizer, sizeof checkpoint->tokenizer, folder, GD_MANIFEST_TOKENIZER);
  GD_TRY_GOTO(status, done, agree(session, status));
  GD_TRY_GOTO(status, done, read_manifest(session, folder, &checkpoint->manifest));
  GD_TRY_GOTO(status, done, agree(session, check_name(folder, &checkpoint->manifest)));
  if (whole) GD_TRY_GOTO(status, done, agree(session, verify_files(session, folder, &checkpoint->manifest)));
  *out = checkpoint;
  return GD_OK;
done:
  gd_checkpoint_close(checkpoint);
  return status;
}

/* Rank 0, after all agreed that the checkpoint is bad: names it in the log and renames it. */
static void put_away(gd_session *session, const char *folder, bool set_aside) {
  char renamed[GD_PATH_BYTES] = "";
  if (my_rank(session) != 0) return;
  gd_error fault;
  gd_error_take(GD_BAD_DATA, &fault);
  if (set_aside && gd_checkpoint_set_aside(folder, "bad", renamed) != GD_OK) {
    gd_log_fault(GD_LOG_WARNING, "%s", gd_error_text());
    renamed[0] = 0;
  }
  (void)gd_error_raise(&fault);
  gd_log_fault(GD_LOG_WARNING, "%s is not whole and is %s%s: %s", folder, renamed[0] ? "set aside as " : "passed over",
               renamed[0] ? last_component(renamed) : "", fault.text);
}

/* ---- which folder ---- */

/* What rank 0 found at the path; travels to all ranks as bytes. */
typedef struct candidates {
  char folder[GD_PATH_BYTES]; /* of a RUN's checkpoints, or the checkpoint itself when named */
  int32_t named, count;
  int64_t *steps; /* rank 0's list is broadcast behind this */
} candidates;

/* Rank 0: a run that stopped early means its best, where that is there. What is wrong with the newest is not told here. */
static gd_status take_best(candidates *found, bool tell) {
  char path[GD_PATH_BYTES], name[32];
  gd_manifest manifest;
  int64_t best;
  gd_checkpoint_step_name(found->steps[0], name);
  GD_TRY(gd_path_join(path, sizeof path, found->folder, name));
  gd_status status = read_manifest(NULL, path, &manifest);
  bool stopped = status == GD_OK && gd_run_state_stopped(&manifest.state, &manifest.spec);
  if (status == GD_OK) gd_manifest_free(&manifest);
  if (status == GD_BAD_DATA) gd_error_clear();
  if (status != GD_OK && status != GD_BAD_DATA) return status;
  if (!stopped) return GD_OK;
  GD_TRY(gd_checkpoint_best(found->folder, &best));
  if (best < 0) return GD_OK;
  if (tell)
    gd_log(GD_LOG_INFO,
           "%s: the run stopped early at step %" PRId64 ": its best is taken, step %" PRId64 " (RUN@last: the last)",
           found->folder, found->steps[0], best);
  gd_checkpoint_step_name(best, name);
  memcpy(path, found->folder, sizeof path);
  found->named = 1;
  return gd_path_join(found->folder, sizeof found->folder, path, name);
}

/* owner: who trains there, and goes on from the newest, whatever name that lies under. */
static gd_status find_candidates(const char *path, bool owner, bool tell, candidates *found) {
  char inner[GD_PATH_BYTES];
  gd_path_kind manifest, self = GD_PATH_NOTHING;
  bool exact;
  GD_TRY(gd_checkpoint_find(path, found->folder, &exact));
  size_t length = strlen(found->folder);
  while (length > 1 && found->folder[length - 1] == '/') found->folder[--length] = 0;
  GD_TRY(gd_path_join(inner, sizeof inner, found->folder, GD_MANIFEST_NAME));
  GD_TRY(gd_path_look(inner, &manifest));
  if (gd_checkpoint_step_of(last_component(found->folder)) >= 0) GD_TRY(gd_path_look(found->folder, &self));
  if (exact || manifest == GD_PATH_FILE || self == GD_PATH_FOLDER) {
    found->named = 1;
    return GD_OK;
  }
  memcpy(inner, found->folder, sizeof inner);
  GD_TRY(gd_checkpoint_folder(inner, found->folder));
  int32_t bad = 0;
  GD_TRY(owner ? gd_checkpoint_list_unrecovered(found->folder, &found->steps, &found->count, &bad)
               : gd_checkpoint_list(found->folder, &found->steps, &found->count, &bad));
  if (!found->count && bad)
    return gd_fail_user(
        GD_BAD_DATA, "%s: holds only damaged checkpoints, set aside as *.bad (%d); move them away to start from the beginning",
        found->folder, bad);
  return owner || !found->count ? GD_OK : take_best(found, tell);
}

static gd_status share_candidates(gd_session *session, const char *path, bool owner, bool tell, candidates *found) {
  gd_status status = my_rank(session) == 0 ? find_candidates(path, owner, tell, found) : GD_OK;
  GD_TRY(agree(session, status));
  if (!session) return GD_OK;
  int64_t *mine = found->steps;
  GD_TRY(gd_session_broadcast(session, found, sizeof *found, 0));
  found->steps = mine;
  if (my_rank(session) != 0) found->steps = malloc(((size_t)found->count + 1) * sizeof *found->steps);
  GD_TRY(agree(session, found->steps || !found->count ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %d steps", found->count)));
  return found->count ? gd_session_broadcast(session, found->steps, (size_t)found->count * sizeof *found->steps, 0) : GD_OK;
}

/* Whether the i-th stands for the second name of its step. */
static bool is_second(const candidates *found, int32_t i) {
  return i > 0 && found->steps[i - 1] == found->steps[i];
}

/* A kill between the two renames of a replacement leaves both names of a step. The one that is removed is that of which another
 * is whole; a damaged one is set aside, and the other takes its place unseen. Collective. */
static gd_status settle_second(gd_session *session, const char *path, const char *aside) {
  gd_checkpoint *checkpoint = NULL;
  gd_status status = try_open(session, path, true, &checkpoint);
  if (status == GD_OK) {
    gd_checkpoint_close(checkpoint);
    return agree(session, my_rank(session) == 0 ? gd_folder_remove(aside) : GD_OK);
  }
  if (status != GD_BAD_DATA) return status;
  put_away(session, path, true);
  if (my_rank(session) == 0) gd_log(GD_LOG_WARNING, "%s, which stepped aside for it, takes its name", aside);
  return agree(session, GD_OK);
}

/* Each step has one name behind this: its own. Collective. */
static gd_status settle_names(gd_session *session, candidates *found) {
  int32_t kept = 0;
  for (int32_t i = 0; i < found->count; i++) {
    char path[GD_PATH_BYTES], aside[GD_PATH_BYTES], name[32];
    if (is_second(found, i)) {
      gd_checkpoint_step_name(found->steps[i], name);
      GD_TRY(gd_path_join(path, sizeof path, found->folder, name));
      GD_TRY(gd_checkpoint_aside(found->folder, found->steps[i], aside));
      GD_TRY(settle_second(session, path, aside));
    }
  }
  for (int32_t i = 0; i < found->count; i++)
    if (!kept || found->steps[kept - 1] != found->steps[i]) found->steps[kept++] = found->steps[i];
  found->count = kept;
  return agree(session, my_rank(session) == 0 ? gd_checkpoint_recover(found->folder) : GD_OK);
}

/* The i-th. Who looks only moves nothing: one that stepped aside is found where it lies, also behind a newer one that is bad.
 */
static gd_status candidate_path(const candidates *found, int32_t i, bool moved, char out[GD_PATH_BYTES]) {
  char name[32];
  if (!moved && is_second(found, i)) return gd_checkpoint_aside(found->folder, found->steps[i], out);
  if (!moved) return gd_checkpoint_place(found->folder, found->steps[i], out);
  gd_checkpoint_step_name(found->steps[i], name);
  return gd_path_join(out, GD_PATH_BYTES, found->folder, name);
}

/* Of one that was named and is bad. */
static gd_status tell_second(gd_status status, const char *folder) {
  char aside[GD_PATH_BYTES + 16];
  snprintf(aside, sizeof aside, "%s.replaced", folder);
  if (status != GD_BAD_DATA || !gd_folder_exists(aside)) return status;
  return gd_error_context(status, "%s, which stepped aside for it, is there and may be whole: it can be named instead", aside);
}

static gd_status open_newest(gd_session *session, const char *path, bool owner, bool whole, gd_checkpoint **out) {
  candidates found = {0};
  *out = NULL;
  gd_status status = share_candidates(session, path, owner, whole, &found);
  if (status == GD_OK && owner && whole && !found.named) status = settle_names(session, &found);
  if (status == GD_OK && found.named) status = tell_second(try_open(session, found.folder, whole, out), found.folder);
  for (int32_t i = 0; status == GD_OK && !found.named && i < found.count; i++) {
    char folder[GD_PATH_BYTES];
    GD_TRY_GOTO(status, done, candidate_path(&found, i, !owner || whole, folder));
    status = try_open(session, folder, whole, out);
    if (status == GD_OK) break;
    if (status != GD_BAD_DATA) goto done;
    if (whole) put_away(session, folder, owner);
    status = i + 1 < found.count ? GD_OK : gd_error_context(status, "no checkpoint in %s is whole", found.folder);
    /* Renames are seen by all ranks before the next is tried. */
    if (status == GD_OK) GD_TRY_GOTO(status, done, agree(session, GD_OK));
  }
done:
  free(found.steps);
  return status;
}

gd_status gd_checkpoint_open(gd_session *session, const char *path, bool set_aside, gd_checkpoint **out) {
  return open_newest(session, path, set_aside, true, out);
}

gd_status gd_checkpoint_peek(const char *path, bool goes_on, gd_checkpoint **out) {
  return open_newest(NULL, path, goes_on, false, out);
}

/* ---- what it holds ---- */

const char *gd_checkpoint_path(const gd_checkpoint *checkpoint) {
  return checkpoint->path;
}
const gd_spec *gd_checkpoint_run_spec(const gd_checkpoint *checkpoint) {
  return &checkpoint->manifest.spec;
}

int32_t gd_checkpoint_numbers_version(const gd_checkpoint *checkpoint) {
  return checkpoint->manifest.numbers_version;
}
const gd_run_state *gd_checkpoint_state(const gd_checkpoint *checkpoint) {
  return &checkpoint->manifest.state;
}
const gd_mesh *gd_checkpoint_mesh(const gd_checkpoint *checkpoint) {
  return &checkpoint->manifest.mesh;
}
const char *gd_checkpoint_tokenizer(const gd_checkpoint *checkpoint) {
  return checkpoint->tokenizer;
}
const gd_manifest *gd_checkpoint_manifest(const gd_checkpoint *checkpoint) {
  return &checkpoint->manifest;
}

const gd_tensor *gd_checkpoint_tensors(const gd_checkpoint *checkpoint, int32_t *count, uint32_t *kinds) {
  *count = checkpoint->manifest.tensor_count;
  if (kinds) *kinds = checkpoint->manifest.kinds;
  return checkpoint->manifest.tensors;
}

void gd_checkpoint_close(gd_checkpoint *checkpoint) {
  if (!checkpoint) return;
  gd_manifest_free(&checkpoint->manifest);
  free(checkpoint);
}
