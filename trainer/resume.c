/* resume.c - finds the checkpoint that a run goes on from, and compares data and keys with it. */
#include "trainer/resume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/checkpoint/folder.h"
#include "io/checkpoint/name.h"
#include "io/config/config.h"
#include "io/data/template.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/base/log.h"

/* ---- which one ---- */

static gd_status name_folder(const char *directory, char out[GD_PATH_BYTES]) {
  return gd_path_join(out, GD_PATH_BYTES, directory, "checkpoints");
}

static gd_status check_named(const gd_resume *resume) {
  return gd_checkpoint_named(resume->from, "a checkpoint or a run directory");
}

static gd_status check_found(const gd_resume *resume, const gd_checkpoint *found) {
  return found ? GD_OK : gd_fail_user(GD_BAD_DATA, "--resume %s: found no checkpoint there", resume->from);
}

gd_status gd_resume_peek(const gd_resume *resume, const char *directory, gd_checkpoint **out) {
  char folder[GD_PATH_BYTES];
  *out = NULL;
  if (resume->kind == GD_RESUME_NONE) return GD_OK;
  if (resume->kind == GD_RESUME_FROM) {
    GD_TRY(check_named(resume));
    GD_TRY(gd_checkpoint_peek(resume->from, false, out));
    return check_found(resume, *out);
  }
  if (!directory[0]) return GD_OK;
  GD_TRY(name_folder(directory, folder));
  return gd_checkpoint_peek(folder, true, out);
}

/* Rank 0. */
static gd_status set_older_aside(const char *folder) {
  char path[GD_PATH_BYTES], renamed[GD_PATH_BYTES], name[32];
  int64_t *steps;
  int32_t count;
  GD_TRY(gd_checkpoint_recover(folder)); /* else one that stepped aside is found, and gone on from, by the next start */
  GD_TRY(gd_checkpoint_list(folder, &steps, &count, 0));
  if (count)
    gd_log(GD_LOG_WARNING, "--resume none: starting anew; %d checkpoint%s in %s (newest: step %lld) set aside as step-N.old",
           count, count == 1 ? "" : "s", folder, (long long)steps[0]);
  gd_status status = count ? gd_checkpoint_set_hint(folder, "BEST", -1) : GD_OK;
  for (int32_t i = 0; i < count && status == GD_OK; i++) {
    gd_checkpoint_step_name(steps[i], name);
    status = gd_path_join(path, sizeof path, folder, name);
    if (status == GD_OK) status = gd_checkpoint_set_aside(path, "old", renamed);
  }
  free(steps);
  return status;
}

gd_status gd_resume_open(gd_session *session, const gd_resume *resume, const char *directory, gd_checkpoint **out) {
  char folder[GD_PATH_BYTES];
  *out = NULL;
  bool first = gd_session_rank(session) == 0;
  GD_TRY(name_folder(directory, folder));
  if (resume->kind == GD_RESUME_NONE) return gd_session_agree(session, first ? set_older_aside(folder) : GD_OK);
  if (resume->kind == GD_RESUME_AUTO) return gd_checkpoint_open(session, folder, true, out);
  GD_TRY(gd_session_agree(session, first ? check_named(resume) : GD_OK));
  GD_TRY(gd_checkpoint_open(session, resume->from, false, out));
  return check_found(resume, *out);
}

/* ---- is it one of this run ---- */

static const char otherwise[] = "begin anew in another run.directory (model.init_from takes the weights alone)";

/* A label is a row of the classifier. */
static gd_status refuse_labels(const gd_checkpoint *checkpoint, const char *path, const gd_data_task *now) {
  const gd_data_task *then = &gd_checkpoint_manifest(checkpoint)->task;
  char fresh[GD_TASK_NAMES_BYTES], gone[GD_TASK_NAMES_BYTES],
      what[2 * GD_TASK_NAMES_BYTES + 64] = "they are numbered otherwise";
  if (then->multiple != now->multiple)
    return gd_fail_user(GD_USAGE, "data.path: %s is for classification with %s a text, %s (classification) has %s; %s", path,
                        now->multiple ? "any number of labels" : "one label", gd_checkpoint_path(checkpoint),
                        then->multiple ? "any number" : "one", otherwise);
  int64_t *places = calloc((size_t)then->label_count + (size_t)now->label_count, sizeof *places);
  if (!places) return gd_fail(GD_NO_MEMORY, "no memory for %d labels", then->label_count + now->label_count);
  gd_data_task_match(then, now, places);
  int32_t come = gd_data_task_unseen(now, places, 0, now->label_count, fresh);
  gd_data_task_match(now, then, places);
  int32_t went = gd_data_task_unseen(then, places, 0, then->label_count, gone);
  free(places);
  if (come || went)
    snprintf(what, sizeof what, "%s%s%s%s%s", come ? fresh : "", come ? (come == 1 ? " is new" : " are new") : "",
             come && went ? ", " : "", went ? gone : "", went ? (went == 1 ? " is missing" : " are missing") : "");
  return gd_fail_user(GD_USAGE, "data.path: %s is for classification with other labels than %s (classification): %s; %s", path,
                      gd_checkpoint_path(checkpoint), what, otherwise);
}

/* A template is what a model has learnt to see. */
static gd_status refuse_template(const gd_checkpoint *checkpoint, const char *path, const gd_data_task *now) {
  gd_template found = {0}, expected = {0};
  gd_status status = gd_template_parse(now->layout, path, &found);
  if (status == GD_OK)
    status = gd_template_parse(gd_checkpoint_manifest(checkpoint)->task.layout, gd_checkpoint_path(checkpoint), &expected);
  if (status == GD_OK)
    status = gd_fail_user(GD_USAGE, "data.path: %s is for sft with another template than %s (sft): found %s, expected %s%s; %s",
                          path, gd_checkpoint_path(checkpoint), found.name, expected.name,
                          strcmp(found.name, expected.name) == 0 ? " with the texts that it had there" : "", otherwise);
  gd_template_free(&found);
  gd_template_free(&expected);
  return status;
}

static gd_status check_task(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_dataset *data) {
  const gd_data_task *then = &gd_checkpoint_manifest(checkpoint)->task, *now = gd_dataset_task(data);
  const char *path = spec->data.path[0];
  if (then->kind != now->kind)
    return gd_fail_user(GD_USAGE, "data.path: %s is for %s, expected %s as in %s; %s", path, gd_data_task_name(now->kind),
                        gd_data_task_name(then->kind), gd_checkpoint_path(checkpoint), otherwise);
  if (gd_data_task_equal(then, now)) return GD_OK;
  return now->kind == GD_TASK_SFT ? refuse_template(checkpoint, path, now) : refuse_labels(checkpoint, path, now);
}

static gd_status compare_tokenizers(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_dataset *data,
                                    const gd_tokenizer *then) {
  gd_tokenizer *now;
  bool same = false;
  if (strcmp(gd_tokenizer_digest(then), gd_dataset_tokenizer_digest(data)) == 0) return GD_OK;
  GD_TRY(gd_tokenizer_open(gd_dataset_tokenizer_folder(data), &now));
  gd_status status = gd_tokenizer_extends(now, then, &same);
  if (status == GD_OK && !same) status = gd_tokenizer_within(now, then, &same);
  gd_tokenizer_close(now);
  if (status != GD_OK || same) return status;
  return gd_fail_user(
      GD_USAGE,
      "data.path: %s was made with tokenizer %s (%.12s), but the weights of %s belong to %s (%.12s); prepare the "
      "data with --tokenizer %s",
      spec->data.path[0], gd_dataset_tokenizer(data), gd_dataset_tokenizer_digest(data), gd_checkpoint_path(checkpoint),
      gd_tokenizer_name(then), gd_tokenizer_digest(then), gd_checkpoint_tokenizer(checkpoint));
}

/* A tokenizer that is not whole is no matter of the data: who opens all of the checkpoint says so. */
static gd_status check_tokenizer(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_dataset *data) {
  gd_tokenizer *then = NULL;
  if (!gd_checkpoint_manifest(checkpoint)->tokenizer_count) return GD_OK;
  gd_status status = gd_tokenizer_open(gd_checkpoint_tokenizer(checkpoint), &then);
  if (status == GD_BAD_DATA || status == GD_USAGE) {
    gd_error_clear();
    return GD_OK;
  }
  if (status == GD_OK) status = compare_tokenizers(checkpoint, spec, data, then);
  if (then) gd_tokenizer_close(then);
  return status;
}

gd_status gd_resume_check_data(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_dataset *data, bool tokenizer) {
  GD_TRY(check_task(checkpoint, spec, data));
  return tokenizer ? check_tokenizer(checkpoint, spec, data) : GD_OK;
}

/* Moments would be missing or left over. */
static gd_status check_trained(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_mesh *mesh, int32_t rank) {
  gd_layout layout;
  int32_t count;
  uint32_t kinds;
  const gd_tensor *saved = gd_checkpoint_tensors(checkpoint, &count, &kinds);
  GD_TRY(gd_layout_create(spec, mesh, rank, &layout));
  gd_status status = gd_config_resume_trained(gd_checkpoint_run_spec(checkpoint), saved, count, spec, layout.tensors,
                                              layout.tensor_count, gd_checkpoint_path(checkpoint));
  gd_layout_free(&layout);
  return status;
}

gd_status gd_resume_check_spec(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_mesh *mesh, int32_t rank,
                               const char *allowed) {
  GD_TRY(gd_config_resume(gd_checkpoint_run_spec(checkpoint), spec, allowed, gd_checkpoint_path(checkpoint)));
  GD_TRY(check_trained(checkpoint, spec, mesh, rank));
  int64_t step = gd_checkpoint_state(checkpoint)->step;
  int32_t version = gd_checkpoint_numbers_version(checkpoint);
  if (version != GD_NUMBERS_VERSION)
    gd_log(GD_LOG_INFO,
           "resume: %s has version %d of the numbers, this program version %d (docs/rounding.md): its weights and moments are "
           "taken as they are, the sums of later steps round otherwise",
           gd_checkpoint_path(checkpoint), version, GD_NUMBERS_VERSION);
  if (step > spec->run.steps)
    return gd_fail_user(GD_USAGE,
                        "run.steps: found %lld, but %s is at step %lld already; raise run.steps, or name an earlier "
                        "checkpoint with --resume",
                        (long long)spec->run.steps, gd_checkpoint_path(checkpoint), (long long)step);
  return GD_OK;
}
