/* inference.h - what gptdist-generate and gptdist-eval share: start a job, open a model for inference with its weights and its
 * tokenizer, and leave. */
#ifndef GD_LAUNCH_INFERENCE_H
#define GD_LAUNCH_INFERENCE_H

#include "comm/session.h"
#include "io/data/task.h"
#include "io/data/dataset.h"
#include "io/tokenizer/tokenizer.h"
#include "shard/memory.h"
#include "trainer/model.h"

typedef struct gd_inference_options {
  const char *checkpoint; /* required: one of ours, a run folder, or a Hugging Face folder */
  const char *tokenizer;  /* SPEC; NULL: the checkpoint's own */
  const char *device;     /* "auto", "cpu", "cuda"; NULL = auto */
  const char *dtype;      /* "float32", "bfloat16"; NULL: the checkpoint's, float32 for a Hugging Face folder */
  int64_t threads;        /* a rank; 0 = the cores it may use, shared with the ranks that have the same */
  int64_t tensor;         /* 0: all ranks */
  bool any_head;          /* a classifier will do; else it is refused */
  int64_t context;        /* capacity of a slot of the cache in tokens; 0: the model's context */
  int64_t slots;          /* of the cache; 0 = 1 */
} gd_inference_options;

typedef struct gd_inference {
  gd_session *session;
  gd_device *device;
  gd_spec spec;
  gd_mesh mesh;
  gd_model model;
  gd_tokenizer *tokenizer; /* NULL: none was found and none was named */
  gd_data_task task;       /* that the model was trained for, a classifier's labels among it */
  int32_t trained;         /* tokens of a sequence in its training; of a model of others its context */
} gd_inference;

enum { GD_INFERENCE_ROWS = 128 }; /* tokens a pass of a prompt */

/* Session open. A user's mistake is agreed by all ranks before device memory is taken. Collective over the job. */
GD_CHECKED gd_status gd_inference_open(gd_session *session, const gd_inference_options *options, gd_inference *out);
/* What gd_inference_open would take as device memory on this rank, weights not read and nothing taken. Collective over the job.
 */
GD_CHECKED gd_status gd_inference_plan(gd_session *session, const gd_inference_options *options, gd_spec *spec,
                                       gd_memory out[GD_MEMORY_IDS]);
void gd_inference_close(gd_inference *inference);

/* Whether the ids of the data mean the same to the model: one tokenizer, in whatever files; where the model brings none, as
 * many ids as it has. GD_USAGE. Local. */
GD_CHECKED gd_status gd_inference_check_data(const gd_inference *inference, const char *checkpoint, const char *path,
                                             const gd_dataset *data);

/* A signal seen by any rank stops all at the same place. Collective over the job. */
GD_CHECKED gd_status gd_inference_stop_asked(gd_session *session, bool *stop);

/* Appends the ids of "1 2 3" (spaces or commas). GD_USAGE naming the option. Local. */
GD_CHECKED gd_status gd_inference_parse_ids(const char *option, const char *text, gd_ids *out);

/* The whole life of such a program: session, work(context, session), one report of a fault, exit code. */
typedef gd_status gd_inference_work(void *context, gd_session *session);
int gd_inference_main(gd_inference_work *work, void *context);

#endif
