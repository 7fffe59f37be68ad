/* run.c - a whole run from start or resume to the end: steps, validation, saves and what it tells of them. */
#include "trainer/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "shard/base/log.h"
#include "shard/cost.h"
#include "shard/deal.h"
#include "trainer/begin.h"
#include "trainer/injected.h"
#include "trainer/nonfinite.h"
#include "trainer/policy.h"
#include "trainer/schedule.h"
#include "trainer/source.h"

static double now_ms(void) {
  return 1e3 * gd_machine_seconds();
}

static void tell(gd_run *run, gd_run_event event) {
  event.step = event.kind == GD_EVENT_SAVED ? event.step : run->state.step;
  event.tokens = run->state.tokens;
  run->events[(run->first_event + run->event_count++) % GD_RUN_EVENTS] = event;
}

/* ---- opening ---- */

static gd_status checkpoint_reader(void *context, const gd_tensor *tensors, const gd_owned_box *boxes, int32_t count,
                                   float *const *data) {
  gd_weight_source source = {.checkpoint = context};
  return gd_weight_source_read(&source, tensors, boxes, count, data);
}

/* Before any memory is taken: is the checkpoint one of this run? */
static gd_status check_same_run(const gd_run *run, const gd_checkpoint *checkpoint, const char *allowed) {
  const int32_t rank = gd_session_rank(run->session);
  GD_TRY(gd_resume_check_data(checkpoint, &run->spec, run->data, rank == 0));
  return gd_resume_check_spec(checkpoint, &run->spec, &run->mesh, rank, allowed);
}

static gd_status resume(gd_run *run, gd_checkpoint *checkpoint) {
  GD_TRY(gd_model_read_weights(&run->model, checkpoint_reader, checkpoint));
  GD_TRY(gd_optimizer_open(&run->model, &run->optimizer));
  GD_TRY(gd_snapshot_restore(&run->optimizer, checkpoint));
  run->state = *gd_checkpoint_state(checkpoint);
  gd_policy_resume(&run->spec, &run->state);
  run->base = gd_checkpoint_manifest(checkpoint)->base;
  if (run->state.draws != run->state.step * run->spec.batch.global)
    gd_log(GD_LOG_WARNING, "batch.global changed since step %lld: the data order goes on from sample %lld of the new size",
           (long long)run->state.step, (long long)(run->state.step * run->spec.batch.global));
  return gd_optimizer_set_progress(&run->optimizer, run->state.applied_steps, run->state.bad_steps);
}

static gd_status open_writer(gd_run *run) {
  char folder[GD_PATH_BYTES + 32];
  snprintf(folder, sizeof folder, "%s/checkpoints", run->spec.run.directory);
  GD_TRY(gd_snapshot_open(&run->optimizer, &run->snapshot));
  if (run->spec.guard.replicas_interval_steps) GD_TRY(gd_replicas_open(&run->optimizer, &run->replicas));
  GD_TRY(gd_checkpoint_writer_open(run->session, folder, &run->spec, &run->mesh, run->model.layout.tensors,
                                   run->model.layout.tensor_count, gd_dataset_tokenizer_folder(run->data), &run->writer));
  gd_checkpoint_writer_set_tokenizer(run->writer, gd_dataset_tokenizer_digest(run->data));
  gd_checkpoint_writer_set_kernels(run->writer, run->model.kernels.ops->name);
  gd_checkpoint_writer_set_base(run->writer, &run->base);
  gd_checkpoint_writer_set_guard(run->writer, run->guard, run->context);
  return gd_checkpoint_writer_set_task(run->writer, gd_dataset_task(run->data));
}

/* Everybody stops, or publishes a save, after the same step. */
static void ask_flags(void *context, int32_t flags[GD_FLAGS]) {
  const gd_run *run = context;
  flags[GD_FLAG_STOP] = run->stop_requested ? (int32_t)run->stop_requested(run->context) : 0;
  flags[GD_FLAG_SAVING] = !gd_checkpoint_idle(run->writer);
}

static gd_status open_data(gd_run *run) {
  gd_deal share = gd_deal_share(&run->spec, run->model.data->size, run->model.data->rank);
  gd_prefetch_plan plan = {.start_step = run->state.step, .draws_per_step = run->spec.batch.global, .count = share.sequences};
  plan.first_offset = share.first_sequence;
  plan.depth = run->spec.data.prefetch;
  if (run->validation) GD_TRY(gd_validator_open(&run->model, run->validation, &run->validator));
  return gd_prefetch_open(run->data, &plan, &run->prefetch);
}

gd_status gd_run_open(gd_session *session, gd_device *device, const gd_spec *spec, gd_dataset *data, gd_dataset *validation,
                      const gd_run_options *options, gd_run *out) {
  memset(out, 0, sizeof *out);
  out->session = session;
  out->device = device;
  out->spec = *spec;
  out->data = data;
  out->validation = spec->validation.interval_steps > 0 ? validation : 0;
  out->stop_requested = options->stop_requested;
  out->guard = options->guard;
  out->context = options->context;
  out->saved_step = out->on_disk = out->marks_best = out->compared_step = -1;
  out->state = gd_policy_begin(spec->validation.metric);
  out->deadline_s = gd_deadline_seconds(&out->deadline, spec->run.watchdog_s);
  gd_session_set_watchdog(session, out->deadline_s);
  gd_session_storage(session, "load", -1);
  gd_checkpoint *checkpoint;
  if (spec->log.profile) GD_TRY(gd_session_agree(session, gd_profile_check(device)));
  GD_TRY(gd_mesh_init(&out->mesh, gd_session_ranks(session), spec->parallel.tensor, spec->parallel.pipeline,
                      spec->parallel.context));
  GD_TRY(gd_resume_open(session, &options->resume, spec->run.directory, &checkpoint));
  gd_status status = checkpoint ? check_same_run(out, checkpoint, options->allowed_changes) : GD_OK;
  if (checkpoint) status = gd_session_agree(session, status); /* all ranks find the same: said once, by rank 0 */
  if (status == GD_OK) status = gd_model_open(session, device, spec, &out->mesh, false, 0, &out->model);
  if (status == GD_OK && gd_inject_armed) status = gd_injected_check(&out->model.layout);
  if (checkpoint) {
    if (status == GD_OK) status = resume(out, checkpoint);
    gd_checkpoint_close(checkpoint);
    GD_TRY(status);
    /* A checkpoint of another folder must be saved here even when no step follows. */
    if (options->resume.kind == GD_RESUME_AUTO) out->saved_step = out->on_disk = out->state.step;
  } else {
    GD_TRY(status);
    GD_TRY(gd_begin_weights(session, &out->model, gd_dataset_task(data), &out->base));
    GD_TRY(gd_optimizer_open(&out->model, &out->optimizer));
  }
  out->token_flops = gd_cost_flops_per_token(&out->model.layout);
  out->head_flops = gd_cost_head_flops_per_token(&out->model.layout);
  out->start_step = out->enqueued = out->state.step;
  if (spec->log.profile && gd_session_rank(session) == 0) GD_TRY(gd_profile_open(&out->model.kernels, &out->profile));
  GD_TRY(gd_step_open(&out->model, &out->optimizer, ask_flags, out, &out->step));
  if (spec->log.timeline) {
    GD_TRY(gd_timeline_open(session, device, spec, &out->model.layout, out->start_step, &out->timeline));
    out->step.timeline = out->timeline;
  }
  GD_TRY(open_writer(out));
  return open_data(out);
}

/* ---- working ---- */

/* A disk that is full may have room at the next save, and until then the older checkpoints are there. The status is agreed, so
 * all ranks go on, or none. */
static gd_status lost_save(gd_run *run, gd_status status) {
  if (status != GD_IO && status != GD_BAD_DATA) return status; /* bad: files that were removed before they were read back */
  run->saved_step = run->marks_best = -1;
  run->failed_saves++;
  if (run->last_save)
    return gd_error_context(status, "it was the last one of this run: steps behind the newest checkpoint are lost");
  if (run->failed_saves == GD_RUN_FAILED_SAVES)
    return gd_error_context(status, "%d saves in a row failed: the run ends here", GD_RUN_FAILED_SAVES);
  gd_log_fault(GD_LOG_WARNING, "%s%s\n  training goes on (%d of %d failed saves in a row that end it)", gd_error_whose(),
               gd_error_text(), run->failed_saves, GD_RUN_FAILED_SAVES);
  gd_error_clear();
  return GD_OK;
}

/* The mark keeps that checkpoint from being removed; the state it was saved with says the same. */
static gd_status mark_best(gd_run *run, int64_t step) {
  gd_status status = gd_checkpoint_mark_best(run->writer, step);
  if (status != GD_IO) return status;
  gd_log_fault(GD_LOG_WARNING, "%s\n  step %lld is not marked as the best", gd_error_text(), (long long)step);
  gd_error_clear();
  return GD_OK;
}

static gd_status publish(gd_run *run) {
  int64_t step;
  gd_session_storage(run->session, "checkpoint", run->state.step);
  gd_status status = gd_checkpoint_finish(run->writer, &step);
  if (status != GD_OK) return lost_save(run, status);
  if (step < 0) return GD_OK;
  run->failed_saves = 0;
  run->on_disk = step;
  if (step == run->marks_best) {
    GD_TRY(mark_best(run, step));
    run->marks_best = -1;
  }
  tell(run, (gd_run_event){.kind = GD_EVENT_SAVED, .step = step});
  return GD_OK;
}

/* All that was enqueued has been read. */
static gd_status check_replicas(gd_run *run) {
  if (run->compared_step == run->state.step) return GD_OK;
  gd_session_progress(run->session, "compare", run->state.step);
  GD_TRY(gd_step_wait(&run->step));
  GD_TRY(gd_replicas_check(&run->replicas, run->state.step));
  run->compared_step = run->state.step;
  return GD_OK;
}

static gd_status save(gd_run *run) {
  if (run->saved_step == run->state.step) return GD_OK;
  GD_TRY(publish(run)); /* the one in flight, whose memory the snapshot shares */
  if (run->spec.guard.replicas_interval_steps) GD_TRY(check_replicas(run));
  gd_session_storage(run->session, "save", run->state.step);
  double start = now_ms();
  GD_TRY(gd_snapshot_take(&run->snapshot));
  gd_status status = gd_checkpoint_save(run->writer, &run->state, run->snapshot.boxes, run->snapshot.count);
  if (status != GD_OK) return lost_save(run, status);
  run->saved_step = run->state.step;
  tell(run, (gd_run_event){.kind = GD_EVENT_SAVING, .ms = now_ms() - start});
  return run->spec.checkpoint.background ? GD_OK : publish(run);
}

/* Between steps: no vote's flags are on their way. */
static gd_status poll_stop(void *context, bool *stop) {
  gd_run *run = context;
  const int64_t *calls;
  int64_t *bad;
  int32_t flags[GD_FLAGS];
  GD_TRY(gd_flags_put(&run->step.flags, 0, &bad));
  GD_TRY(gd_flags_agree(&run->step.flags, 0, &calls));
  GD_TRY(run->device->ops->stream_sync(run->device->compute));
  GD_TRY(gd_flags_read(&run->step.flags, 0, flags));
  *stop = flags[GD_FLAG_STOP] != 0;
  if (*stop) run->stop = (gd_stop)flags[GD_FLAG_STOP];
  return GD_OK;
}

static gd_status validate(gd_run *run) {
  gd_run_event event = {.kind = GD_EVENT_VALIDATION};
  double start = now_ms(), values[GD_METRICS];
  bool stopped;
  GD_TRY(gd_validator_run(&run->validator, run->spec.validation.batches, run->state.step, poll_stop, run, values, &stopped));
  if (stopped) return GD_OK; /* the next start validates again */
  /* All ranks sum the same numbers in the same order. What follows must be decided alike whatever befalls one of them, or they
   * would part: rank 0's count. */
  GD_TRY(gd_session_broadcast(run->session, values, sizeof values, 0));
  gd_policy_verdict verdict = gd_policy_judge(&run->spec, &run->state, values[run->spec.validation.metric]);
  run->validated = true;
  event.ms = now_ms() - start;
  event.loss = values[GD_METRIC_LOSS];
  memcpy(event.scores, values, sizeof event.scores);
  event.best = verdict.best;
  event.lr_cut = verdict.cut;
  event.lr = (double)gd_schedule_lr(&run->spec, run->state.lr_factor, run->state.step);
  tell(run, event);
  if (!event.best) return GD_OK;
  GD_TRY(save(run));
  if (run->on_disk == run->state.step) return mark_best(run, run->state.step); /* perhaps since before this validation */
  if (run->saved_step == run->state.step) run->marks_best = run->state.step;
  return GD_OK;
}

static gd_status enqueue_step(gd_run *run) {
  int64_t number = run->enqueued;
  gd_inject_set_step(number + 1);
  run->began_ms[number % GD_FLAGS_AHEAD] = now_ms();
  if (run->profile) gd_profile_begin(run->profile);
  gd_batch *batch;
  GD_TRY(gd_step_batch(&run->step, number, &batch));
  gd_session_storage(run->session, "data", number + 1);
  GD_TRY(gd_prefetch_next(run->prefetch, batch));
  GD_TRY(gd_step_run(&run->step, number, batch, gd_schedule_lr(&run->spec, run->state.lr_factor, number)));
  run->enqueued++;
  return GD_OK;
}

static void follow_pace(gd_run *run, double step_ms) {
  gd_deadline_step(&run->deadline, step_ms);
  int32_t seconds = gd_deadline_seconds(&run->deadline, run->spec.run.watchdog_s);
  if (seconds == run->deadline_s) return;
  run->deadline_s = seconds;
  gd_session_set_watchdog(run->session, seconds);
}

/* The end of a run whose steps stay bad: it says whose gradient is to blame. Weights are those that the step had, where no step
 * behind it was enqueued that was good. */
static gd_status give_up(gd_run *run, int64_t number, int64_t bad_steps, bool no_target) {
  char where[GD_NONFINITE_BYTES];
  gd_batch *its;
  if (no_target)
    return gd_session_agree(
        run->session, gd_fail_user(GD_LOSS_DIVERGED,
                                   "step %lld: its batch has no target that the loss could be of, and is the last of %lld "
                                   "step%s in a row that were skipped; look at the data (gptdist-data at), or raise "
                                   "guard.max_bad_steps",
                                   (long long)number + 1, (long long)bad_steps, bad_steps == 1 ? "" : "s"));
  gd_inject_set_step(number + 1);
  GD_TRY(gd_step_batch(&run->step, number, &its));
  GD_TRY(gd_nonfinite_find(&run->step, number, its, where));
  gd_status status = gd_fail_user(GD_LOSS_DIVERGED,
                                  "step %lld: the loss or the gradient norm was not finite for %lld step%s in a row (last "
                                  "finite before step %lld); %s; the "
                                  "newest checkpoint is from before; lower optimizer.lr, or raise guard.max_bad_steps",
                                  (long long)number + 1, (long long)bad_steps, bad_steps == 1 ? "" : "s",
                                  (long long)(number - bad_steps + 2), where);
  return gd_session_agree(run->session, status); /* all ranks say the same: once */
}

/* What was drawn goes to its file, once. A disk that refuses it stops no run. */
static gd_status write_timeline(gd_run *run) {
  gd_timeline *timeline = run->timeline;
  if (!timeline) return GD_OK;
  GD_TRY(gd_step_wait(&run->step));
  run->timeline = run->step.timeline = NULL;
  gd_status status = gd_timeline_write(timeline);
  gd_timeline_close(timeline);
  if (status != GD_IO) return status;
  gd_log_fault(GD_LOG_WARNING, "%s\n  the timeline of rank %d is missing", gd_error_text(), gd_session_rank(run->session));
  gd_error_clear();
  return GD_OK;
}

/* Waits for the oldest step that was enqueued, and tells of it. */
static gd_status read_step(gd_run *run) {
  const gd_spec *spec = &run->spec;
  int64_t number = run->state.step;
  gd_run_event event = {.kind = GD_EVENT_STEP, .lr = (double)gd_schedule_lr(spec, run->state.lr_factor, number)};
  gd_step_result result;
  GD_TRY(gd_step_read(&run->step, number, &result));
  const gd_verdict *verdict = &result.verdict;
  if (run->profile) gd_profile_end(run->profile);
  double now = now_ms(), began = run->began_ms[number % GD_FLAGS_AHEAD];
  event.ms = now - (began > run->read_ms ? began : run->read_ms);
  run->read_ms = now;
  follow_pace(run, event.ms);
  event.loss = verdict->weight_sum > 0 ? verdict->loss_sum / verdict->weight_sum : 0;
  if (verdict->weight_sum == 0 && gd_session_rank(run->session) == 0)
    gd_log(GD_LOG_WARNING, "step %lld: its batch has no target; the step is skipped", (long long)number + 1);
  event.gradient_norm = verdict->gradient_norm;
  event.skipped = !verdict->apply;
  double tokens = (double)spec->batch.global * spec->batch.sequence, untaught = 1 - verdict->weight_sum / tokens;
  event.tokens_per_s = tokens / (event.ms / 1e3);
  event.tflops = event.tokens_per_s * (run->token_flops - untaught * run->head_flops) / 1e12;
  run->state.step = number + 1;
  run->state.tokens += (int64_t)verdict->weight_sum;
  run->state.draws = run->state.step * spec->batch.global;
  run->state.applied_steps = verdict->applied_steps;
  run->state.bad_steps = verdict->bad_steps;
  run->validated = false;
  tell(run, event);
  if (run->timeline && gd_timeline_whole(run->timeline, run->state.step)) GD_TRY(write_timeline(run));
  if (verdict->bad_steps >= spec->guard.max_bad_steps && spec->guard.max_bad_steps > 0)
    return give_up(run, number, verdict->bad_steps, verdict->weight_sum == 0);
  /* A request that comes with the last step enqueued changes nothing. */
  if (result.flags[GD_FLAG_STOP] && run->enqueued < spec->run.steps) run->stop = (gd_stop)result.flags[GD_FLAG_STOP];
  /* Only a save that was in flight before this step's vote and is idle on every rank is published now. */
  return result.flags[GD_FLAG_SAVING] ? GD_OK : publish(run);
}

/* Reads steps until so many are enqueued and not read. */
static gd_status read_steps(gd_run *run, int64_t left) {
  while (run->enqueued - run->state.step > left) GD_TRY(read_step(run));
  return GD_OK;
}

/* All ranks wait, not the struck one alone: else some would be in the middle of a collective that others have not begun. */
static gd_status inject_flip(gd_run *run) {
  GD_TRY(gd_step_wait(&run->step));
  return gd_injected_flip(&run->model);
}

static bool due(int64_t interval, int64_t step) {
  return interval > 0 && step % interval == 0;
}

/* The last things: validation of the final weights, the last checkpoint, and all of it on the disk. */
static gd_status finish(gd_run *run) {
  GD_TRY(write_timeline(run));
  if (run->stop == GD_STOP_DONE && run->validation && !run->validated) GD_TRY(validate(run));
  GD_TRY(publish(run)); /* where it fails this very step may still be saved */
  if (run->stop != GD_STOP_DONE || run->spec.checkpoint.at_end) {
    run->last_save = true;
    GD_TRY(save(run));
    GD_TRY(publish(run));
  }
  GD_TRY(gd_step_wait(&run->step));
  run->ended = true;
  tell(run, (gd_run_event){.kind = GD_EVENT_END, .stop = run->stop});
  return GD_OK;
}

/* Where the device runs beside the host, a step is read after the next one was enqueued, unless the state of just this step is
 * wanted. */
static gd_status advance(gd_run *run) {
  int64_t save_every = run->spec.checkpoint.interval_steps;
  int64_t validate_every = run->validation ? run->spec.validation.interval_steps : 0;
  int64_t compare_every = run->spec.guard.replicas_interval_steps;
  if (run->stop != GD_STOP_NONE) GD_TRY(read_steps(run, 0));
  if (run->state.step >= run->spec.run.steps && run->stop == GD_STOP_NONE) run->stop = GD_STOP_DONE;
  if (run->stop != GD_STOP_NONE) return finish(run);
  /* The checkpoint does not tell whether its step's validation came before or after it: a resumed run does that again, as it
   * begins (its metrics line was cut off), and so goes on like one that was never stopped. */
  if (!run->validated && run->state.step > 0 && run->state.step == run->start_step && run->enqueued == run->start_step &&
      due(validate_every, run->state.step))
    return validate(run);
  if (gd_run_state_stopped(&run->state, &run->spec)) { /* all steps were read before the validation that found it */
    run->stop = GD_STOP_EARLY;
    return finish(run);
  }
  if (run->spec.checkpoint.at_start && run->enqueued == 0 && run->saved_step < 0 && !run->failed_saves) GD_TRY(save(run));
  GD_TRY(enqueue_step(run));
  bool wanted = run->enqueued == run->spec.run.steps || due(validate_every, run->enqueued) || due(save_every, run->enqueued) ||
                due(compare_every, run->enqueued);
  bool at_once = wanted || run->device->immediate || run->spec.log.profile; /* steps that are timed do not overlap */
  GD_TRY(read_steps(run, at_once ? 0 : 1));
  if (gd_injected_flips()) GD_TRY(inject_flip(run));
  if (!wanted) return GD_OK;
  if (due(compare_every, run->state.step)) GD_TRY(check_replicas(run));
  if (due(validate_every, run->state.step) && run->stop == GD_STOP_NONE) GD_TRY(validate(run));
  if (due(save_every, run->state.step)) GD_TRY(save(run));
  return GD_OK;
}

gd_status gd_run_next(gd_run *run, gd_run_event *event) {
  while (run->event_count == 0) {
    if (run->ended) return gd_fail(GD_BUG, "gd_run_next after the end of the run");
    GD_TRY(advance(run));
  }
  *event = run->events[run->first_event];
  run->first_event = (run->first_event + 1) % GD_RUN_EVENTS;
  run->event_count--;
  return GD_OK;
}

void gd_run_close(gd_run *run) {
  if (!run->device) return;
  gd_step_close(&run->step); /* waits for what is enqueued */
  gd_timeline_close(run->timeline);
  if (run->prefetch) gd_prefetch_close(run->prefetch);
  if (run->writer) gd_checkpoint_writer_close(run->writer);
  gd_validator_close(&run->validator);
  gd_snapshot_close(&run->snapshot);
  gd_replicas_close(&run->replicas);
  gd_profile_close(run->profile);
  gd_optimizer_close(&run->optimizer);
  gd_model_close(&run->model);
  memset(run, 0, sizeof *run);
}
