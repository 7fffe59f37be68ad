/* inference.c - a job and a model for inference, for gptdist-generate and gptdist-eval. */
#include "launch/inference.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/files.h"
#include "io/config/config.h"
#include "launch/console.h"
#include "launch/data_brought.h"
#include "launch/precision.h"
#include "launch/signals.h"
#include "shard/base/log.h"
#include "trainer/source.h"

static gd_status choose(const char *option, const char *found, const char *const *names, int count, int *out) {
  for (int i = 0; i < count; i++) {
    *out = i;
    if (!strcmp(found, names[i])) return GD_OK;
  }
  return gd_fail_user(GD_USAGE, "%s: found \"%s\", expected %s%s%s%s%s", option, found, names[0], ", ", names[1],
                      count > 2 ? ", " : "", count > 2 ? names[2] : "");
}

static int32_t capacity_of(const gd_inference_options *options, const gd_spec *spec) {
  return options->context ? (int32_t)options->context : spec->model.context;
}

static int32_t slots_of(const gd_inference_options *options) {
  return options->slots ? (int32_t)options->slots : 1;
}

/* The spec of the checkpoint's model, one block a tensor rank. */
static gd_status make_spec(const gd_inference_options *options, const gd_weight_source *source, int32_t ranks, gd_spec *spec) {
  static const char *const devices[] = {"auto", "cpu", "cuda"}, *const dtypes[] = {"float32", "bfloat16"};
  int choice;
  gd_config_defaults(spec);
  GD_TRY(gd_weight_source_model(source, spec));
  if (source->checkpoint) spec->precision = gd_checkpoint_run_spec(source->checkpoint)->precision;
  if (options->device) {
    GD_TRY(choose("--device", options->device, devices, 3, &choice));
    spec->run.device = (gd_device_kind)choice;
  }
  if (options->dtype) {
    GD_TRY(choose("--dtype", options->dtype, dtypes, 2, &choice));
    spec->precision.dtype = choice ? GD_BFLOAT16 : GD_FLOAT32;
  }
  spec->run.threads = (int32_t)options->threads;
  spec->numerics = GD_NUMERICS_FAST;
  spec->data.mask_documents = false;
  spec->model.dropout = 0;
  spec->parallel =
      (gd_parallel_spec){.tensor = options->tensor ? (int32_t)options->tensor : ranks, .pipeline = 1, .context = 1};
  spec->parallel.blocks = spec->parallel.tensor;
  if (ranks % spec->parallel.tensor)
    return gd_fail_user(GD_USAGE, "--tensor: found %d, expected a divisor of the %d ranks of this job", spec->parallel.tensor,
                        ranks);
  GD_TRY(gd_spec_resolve_model(spec));
  const gd_model_spec *m = &spec->model;
  if (m->heads % spec->parallel.tensor || m->kv_heads % spec->parallel.tensor || m->ffn % spec->parallel.tensor)
    return gd_fail_user(GD_USAGE, "%d tensor ranks do not divide this model: heads %d, kv_heads %d, ffn %d",
                        spec->parallel.tensor, m->heads, m->kv_heads, m->ffn);
  int32_t capacity = capacity_of(options, spec);
  if (capacity > m->context && m->position == GD_POSITION_LEARNED)
    return gd_fail_user(GD_USAGE, "%d tokens: this model has positions for %d", capacity, m->context);
  spec->batch = (gd_batch_spec){.global = 1, .micro = 1, .order = GD_ORDER_SEQUENTIAL};
  spec->batch.sequence = capacity < GD_INFERENCE_ROWS ? capacity : GD_INFERENCE_ROWS;
  if (options->slots > spec->batch.sequence) spec->batch.sequence = (int32_t)options->slots; /* a row of each in one call */
  return GD_OK;
}

static gd_status open_tokenizer(const gd_inference_options *options, const gd_weight_source *source, gd_tokenizer **out) {
  *out = 0;
  if (options->tokenizer) {
    char memory[GD_PATH_BYTES];
    const char *spec;
    GD_TRY(gd_data_tokenizer_spec(options->tokenizer, memory, &spec));
    return gd_tokenizer_open(spec, out);
  }
  if (!source->tokenizer[0]) return GD_OK;
  char ours[GD_PATH_BYTES];
  GD_TRY(gd_path_join(ours, sizeof ours, source->tokenizer, "gptdist-tokenizer.json"));
  gd_status status = gd_tokenizer_open(source->tokenizer, out);
  if (status == GD_OK || !source->huggingface || gd_file_exists(ours)) return status;
  gd_error_clear(); /* a model folder need not bring a tokenizer that we read */
  *out = 0;
  return GD_OK;
}

static gd_status find_model(gd_inference *inference, const gd_inference_options *options, gd_weight_source *source) {
  if (!options->checkpoint)
    return gd_fail_user(GD_USAGE, "--checkpoint: not given; name a checkpoint, a run or a model folder");
  GD_TRY(gd_weight_source_open(inference->session, options->checkpoint, source));
  GD_TRY(make_spec(options, source, gd_session_ranks(inference->session), &inference->spec));
  if (inference->spec.model.classes && !options->any_head)
    return gd_fail_user(GD_USAGE, "%s: is a classifier of %d outputs, expected a language model", options->checkpoint,
                        inference->spec.model.classes);
  GD_TRY(open_tokenizer(options, source, &inference->tokenizer));
  if (inference->tokenizer && gd_tokenizer_vocabulary(inference->tokenizer) > inference->spec.model.vocabulary)
    return gd_fail_user(GD_USAGE, "the tokenizer has %d ids, but the model only %d",
                        gd_tokenizer_vocabulary(inference->tokenizer), inference->spec.model.vocabulary);
  const gd_manifest *manifest = source->checkpoint ? gd_checkpoint_manifest(source->checkpoint) : NULL;
  inference->trained = manifest && !manifest->imported ? manifest->spec.batch.sequence : inference->spec.model.context;
  return gd_data_task_copy(gd_weight_source_task(source), &inference->task);
}

gd_status gd_inference_check_data(const gd_inference *inference, const char *checkpoint, const char *path,
                                  const gd_dataset *data) {
  const gd_tokenizer *own = inference->tokenizer;
  gd_tokenizer *other = NULL;
  bool same = !own || strcmp(gd_tokenizer_digest(own), gd_dataset_tokenizer_digest(data)) == 0;
  if (!same) {
    GD_TRY(gd_tokenizer_open(gd_dataset_tokenizer_folder(data), &other));
    gd_status status = gd_tokenizer_within(other, own, &same);
    gd_tokenizer_close(other);
    GD_TRY(status);
  }
  if (!same)
    return gd_fail_user(GD_USAGE, "%s was made with tokenizer %s (%.12s), but %s has %s (%.12s), in which ids are other texts",
                        path, gd_dataset_tokenizer(data), gd_dataset_tokenizer_digest(data), checkpoint, gd_tokenizer_name(own),
                        gd_tokenizer_digest(own));
  if (gd_dataset_vocabulary(data) > inference->spec.model.vocabulary)
    return gd_fail_user(GD_USAGE, "%s has %d token ids, but %s only %d", path, gd_dataset_vocabulary(data), checkpoint,
                        inference->spec.model.vocabulary);
  return GD_OK;
}

gd_status gd_inference_plan(gd_session *session, const gd_inference_options *options, gd_spec *spec,
                            gd_memory out[GD_MEMORY_IDS]) {
  gd_inference found = {.session = session};
  gd_weight_source source = {0};
  gd_layout layout = {0};
  gd_status status = find_model(&found, options, &source);
  if (status == GD_OK) status = gd_mesh_init(&found.mesh, gd_session_ranks(session), found.spec.parallel.tensor, 1, 1);
  if (status == GD_OK) status = gd_layout_create(&found.spec, &found.mesh, gd_session_rank(session), &layout);
  if (status == GD_OK) gd_memory_of_inference(&layout, slots_of(options), capacity_of(options, &found.spec), out);
  *spec = found.spec;
  gd_layout_free(&layout);
  gd_weight_source_close(&source);
  if (found.tokenizer) gd_tokenizer_close(found.tokenizer);
  gd_data_task_free(&found.task);
  return gd_session_agree(session, status);
}

gd_status gd_inference_open(gd_session *session, const gd_inference_options *options, gd_inference *out) {
  gd_weight_source source = {0};
  memset(out, 0, sizeof *out);
  out->session = session;
  gd_status status = gd_session_agree(session, find_model(out, options, &source));
  if (status != GD_OK) {
    gd_weight_source_close(&source);
    return status;
  }
  gd_spec *spec = &out->spec;
  if (!spec->run.threads) spec->run.threads = gd_session_threads(session);
  GD_TRY_GOTO(status, end, gd_mesh_init(&out->mesh, gd_session_ranks(session), spec->parallel.tensor, 1, 1));
  GD_TRY_GOTO(status, end, gd_session_open_device(session, spec, &out->device));
  GD_TRY_GOTO(status, end, gd_precision_settle(session, out->device, false, spec));
  GD_TRY_GOTO(
      status, end,
      gd_model_open(session, out->device, spec, &out->mesh, slots_of(options), capacity_of(options, spec), &out->model));
  status = gd_model_read_weights(&out->model, gd_weight_source_read, &source);
end:
  gd_weight_source_close(&source);
  return gd_session_agree(session, status);
}

void gd_inference_close(gd_inference *inference) {
  gd_model_close(&inference->model);
  if (inference->tokenizer) gd_tokenizer_close(inference->tokenizer);
  inference->tokenizer = 0;
  gd_data_task_free(&inference->task);
}

gd_status gd_inference_stop_asked(gd_session *session, bool *stop) {
  int32_t ranks = gd_session_ranks(session), mine = gd_signals_pending() != 0, all[1024];
  *stop = mine != 0;
  if (ranks == 1 || ranks > 1024) return GD_OK;
  GD_TRY(gd_session_all_gather(session, &mine, all, sizeof mine));
  for (int32_t r = 0; r < ranks; r++) *stop = *stop || all[r];
  return GD_OK;
}

gd_status gd_inference_parse_ids(const char *option, const char *text, gd_ids *out) {
  const char *at = text;
  while (*at) {
    char *end;
    if (isspace((unsigned char)*at) || *at == ',') {
      at++;
      continue;
    }
    errno = 0;
    long id = strtol(at, &end, 10);
    if (end == at || errno || id < 0 || id > INT32_MAX)
      return gd_fail_user(GD_USAGE, "%s: found \"%.20s\", expected whole numbers from 0", option, at);
    int32_t one = (int32_t)id;
    GD_TRY(gd_ids_append(out, &one, 1));
    at = end;
  }
  return GD_OK;
}

int gd_inference_main(gd_inference_work *work, void *context) {
  gd_session *session;
  gd_status status = gd_session_open(&session);
  if (status != GD_OK) return gd_console_leave(status, true);
  gd_console_connect(session);
  status = work(context, session);
  /* A check's answer and a user's mistake are agreed, so all ranks come here and leave in order; else peers may be waiting. */
  if (status != GD_OK && status != GD_NO && status != GD_USAGE && status != GD_BAD_DATA && gd_session_ranks(session) > 1)
    gd_session_abort(session, status, gd_error_text());
  int code = gd_console_leave(status, false);
  gd_console_connect(NULL);
  gd_session_close(session);
  gd_console_close();
  return code;
}
