/* run.h - a training run: memory, weights or resume, steps, validation, checkpoints. launch/ pulls events and prints them. */
#ifndef GD_TRAINER_RUN_H
#define GD_TRAINER_RUN_H

#include "io/checkpoint/checkpoint.h"
#include "io/data/dataset.h"
#include "trainer/deadline.h"
#include "trainer/kernels/profile.h"
#include "trainer/replicas.h"
#include "trainer/resume.h"
#include "trainer/snapshot.h"
#include "trainer/step.h"
#include "trainer/validate.h"

typedef enum gd_event_kind {
  GD_EVENT_STEP,       /* an optimizer step is done */
  GD_EVENT_VALIDATION, /* loss on the validation split */
  GD_EVENT_SAVING,     /* a snapshot was taken; `ms` is the stall */
  GD_EVENT_SAVED,      /* checkpoint `step` is on the disk */
  GD_EVENT_END,        /* nothing more to do: see `stop` */
} gd_event_kind;

typedef enum gd_stop { GD_STOP_NONE, GD_STOP_DONE, GD_STOP_REQUESTED, GD_STOP_TIME, GD_STOP_EARLY } gd_stop;

typedef struct gd_run_event {
  gd_event_kind kind;
  int64_t step;   /* steps done, this one included */
  int64_t tokens; /* target tokens so far */
  double loss, lr, gradient_norm;
  double scores[GD_METRICS];   /* validation: by gd_metric; NaN: what its task has not */
  double ms;                   /* of the step, the validation, the stall */
  double tokens_per_s, tflops; /* of the whole job, this step */
  bool skipped;                /* a non-finite step, not applied */
  bool best, lr_cut;           /* validation: the best so far; the learning rate of a plateau was cut after it */
  gd_stop stop;
} gd_run_event;

/* Polled once a step on every rank, with its vote; the answers are agreed. 0 = go on, else a gd_stop. */
typedef gd_stop gd_stop_requested(void *context);

enum { GD_RUN_EVENTS = 8, GD_RUN_FAILED_SAVES = 3 };

typedef struct gd_run {
  gd_session *session;
  gd_device *device;
  gd_spec spec;
  gd_mesh mesh;
  gd_model model;         /* arenas: parameters, gradients, activations, workspace */
  gd_optimizer optimizer; /* arena: optimizer */
  gd_step step;
  gd_profile *profile;   /* log.profile on rank 0, else NULL */
  gd_timeline *timeline; /* log.timeline until its file was written, else NULL */
  gd_snapshot snapshot;
  gd_replicas replicas;          /* guard.replicas_interval_steps, else nothing */
  gd_dataset *data, *validation; /* validation NULL: none */
  gd_validator validator;
  gd_prefetch *prefetch;
  gd_checkpoint_writer *writer;
  gd_run_state state;
  gd_base base;       /* the weights that it began with, before all resumes */
  int64_t start_step; /* where this process began */
  int64_t enqueued;   /* steps; state.step of them have been read */
  double began_ms[GD_FLAGS_AHEAD], read_ms;
  gd_deadline deadline;  /* of the watchdog, by the steps so far */
  int32_t deadline_s;    /* as the session has it */
  double token_flops;    /* of a step, for each token */
  double head_flops;     /* of them, those that a token without a target has not */
  int64_t saved_step;    /* last snapshot, -1 = none */
  int64_t on_disk;       /* the newest one that was published, -1 = none */
  int64_t marks_best;    /* a step to mark once it is published, -1 = none */
  int64_t compared_step; /* last one after which copies were compared, -1 = none */
  int32_t failed_saves;  /* since the last that was published */
  bool last_save;        /* no other one follows */
  gd_stop_requested *stop_requested;
  gd_checkpoint_guard *guard;
  void *context; /* of both */
  gd_stop stop;
  bool validated, ended; /* validated: at state.step */
  gd_run_event events[GD_RUN_EVENTS];
  int32_t first_event, event_count;
} gd_run;

typedef struct gd_run_options {
  gd_resume resume;
  const char *allowed_changes;       /* keys with commas between them that may differ from the checkpoint's; NULL: none */
  gd_stop_requested *stop_requested; /* may be NULL */
  gd_checkpoint_guard *guard;        /* of run.directory, at each save; may be NULL */
  void *context;                     /* of both */
} gd_run_options;

/* spec resolved, device open; data and validation (may be NULL) stay the caller's. Takes all memory, then reads weights or the
 * newest valid checkpoint of spec->run.directory. Collective over the job. */
GD_CHECKED gd_status gd_run_open(gd_session *session, gd_device *device, const gd_spec *spec, gd_dataset *data,
                                 gd_dataset *validation, const gd_run_options *options, gd_run *out);
/* Works until there is something to tell. After GD_EVENT_END it must not be called again. GD_LOSS_DIVERGED when
 * guard.max_bad_steps steps in a row were skipped; GD_IO when GD_RUN_FAILED_SAVES saves in a row failed, or the last one did:
 * other failed saves are warnings; GD_RANK_FAILED when copies of weights differ (guard.replicas_interval_steps). Collective
 * over the job. */
GD_CHECKED gd_status gd_run_next(gd_run *run, gd_run_event *event);
void gd_run_close(gd_run *run);

#endif
