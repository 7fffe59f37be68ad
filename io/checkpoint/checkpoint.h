/* checkpoint.h - a checkpoint on disk: boxes of named tensors in one HDF5 file a rank, tied together by MANIFEST.pb.
 *
 *   RUN/checkpoints/step-00001000/rank-00000.h5 ... MANIFEST.pb SHA256SUMS tokenizer/
 *
 * Any layout loads any layout: files hold boxes of logical tensors, readers ask for the boxes they want. Written as
 * step-N.tmp-<id>, renamed when every byte is on disk; LATEST is only a hint.
 */
#ifndef GD_IO_CHECKPOINT_CHECKPOINT_H
#define GD_IO_CHECKPOINT_CHECKPOINT_H

#include "comm/session.h"
#include "io/checkpoint/manifest.h"
#include "shard/layout.h"
#include "shard/spec.h"
#include "shard/state.h"

/* What of a tensor: its float32 weights, or a moment of the optimizer. */
typedef enum gd_checkpoint_kind { GD_KIND_WEIGHTS, GD_KIND_FIRST, GD_KIND_SECOND, GD_KINDS } gd_checkpoint_kind;

typedef struct gd_checkpoint_box {
  int32_t tensor; /* index into the layout's tensors (sorted by name) */
  gd_checkpoint_kind kind;
  gd_box box;
  float *data; /* host, dense box.rows x box.cols float32; read by save, written by load */
} gd_checkpoint_box;

/* ---- writing ---- */

typedef struct gd_checkpoint_writer
    gd_checkpoint_writer; /* one a process: at most one save in flight, one thread that owns HDF5 */

/* Tensors that are frozen are saved as weights alone. directory: RUN/checkpoints, made if missing. Removes *.tmp-* left by
 * killed saves. Collective over the job. */
GD_CHECKED gd_status gd_checkpoint_writer_open(gd_session *session, const char *directory, const gd_spec *spec,
                                               const gd_mesh *mesh, const gd_tensor *tensors, int32_t tensor_count,
                                               const char *tokenizer_directory, gd_checkpoint_writer **out);
/* gd_tokenizer_digest of the tokenizer in tokenizer_directory: a save that copied another, or a damaged one, fails with
 * GD_BAD_DATA. Not called: the folder's files are copied as they are. Local. */
void gd_checkpoint_writer_set_tokenizer(gd_checkpoint_writer *writer, const char *digest);
/* The kernel table that made the numbers ("cpu-avx512", "cuda"), for the manifest. Local. */
void gd_checkpoint_writer_set_kernels(gd_checkpoint_writer *writer, const char *name);
/* What the data is for, copied, and the weights that the run began with, for the manifest. Local. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_checkpoint_writer_set_task(gd_checkpoint_writer *writer, const gd_data_task *task);
void gd_checkpoint_writer_set_base(gd_checkpoint_writer *writer, const gd_base *base);
/* Asked on rank 0 before what was written gets its name and older ones go: whether the directory is still the run's own. A save
 * fails with what it returns, and changes nothing then. Local. */
typedef gd_status gd_checkpoint_guard(void *context);
void gd_checkpoint_writer_set_guard(gd_checkpoint_writer *writer, gd_checkpoint_guard *guard, void *context);
/* Starts a save of my boxes (data must stay unchanged until finished). Waits for an earlier save first. Collective. */
GD_CHECKED gd_status gd_checkpoint_save(gd_checkpoint_writer *writer, const gd_run_state *state, const gd_checkpoint_box *boxes,
                                        int32_t count);
/* True when no save is in flight on this rank (local, cheap). */
bool gd_checkpoint_idle(const gd_checkpoint_writer *writer);
/* Waits for the save in flight and publishes it: digests agreed, manifest, rename, fsync of the folder, old ones deleted (never
 * the best, the last, nor anything while the new one is not verified), later ones of a try that was taken back renamed to
 * NAME.old. GD_IO when any rank failed: that checkpoint is gone, older ones stay. *step = the published step, -1 when nothing
 * was in flight. Collective. */
GD_CHECKED gd_status gd_checkpoint_finish(gd_checkpoint_writer *writer, int64_t *step);
/* Marks a published step as the best so far (kept, hint file BEST). Collective. */
GD_CHECKED gd_status gd_checkpoint_mark_best(gd_checkpoint_writer *writer, int64_t step);
void gd_checkpoint_writer_close(gd_checkpoint_writer *writer);

/* ---- reading ---- */

typedef struct gd_checkpoint gd_checkpoint;

/* path: a checkpoint folder, RUN@best, RUN@last or RUN@STEP (name.h), a RUN/checkpoints folder or a RUN folder (newest valid
 * first; of a run that stopped early its best, unless set_aside: who trains there goes on). session may be NULL (one process).
 * Every file is hashed once (dealt over ranks) and the verdict agreed before HDF5 sees a byte; a bad checkpoint of a RUN is
 * named in the log, set aside as NAME.bad (only when set_aside) and the next older one tried. *out = NULL and GD_OK when the
 * folder holds no checkpoint at all; GD_USAGE for a name of RUN@... that there is not; GD_BAD_DATA when all are bad (or only
 * .bad ones are left), or the named one is; GD_IO when the system refuses a read (nothing is set aside then). Collective over
 * the job. */
GD_CHECKED gd_status gd_checkpoint_open(gd_session *session, const char *path, bool set_aside, gd_checkpoint **out);
/* The same of one process by the manifest alone, which is checked; its files are not: enough for the spec. Never set aside.
 * goes_on: the one from which a run goes on there, also one that stopped early, or lies aside (folder.h) until it is loaded. */
GD_CHECKED gd_status gd_checkpoint_peek(const char *path, bool goes_on, gd_checkpoint **out);
const char *gd_checkpoint_path(const gd_checkpoint *checkpoint);
const gd_spec *gd_checkpoint_run_spec(const gd_checkpoint *checkpoint);
/* GD_NUMBERS_VERSION of the program that wrote it. */
int32_t gd_checkpoint_numbers_version(const gd_checkpoint *checkpoint);
const gd_run_state *gd_checkpoint_state(const gd_checkpoint *checkpoint);
const gd_mesh *gd_checkpoint_mesh(const gd_checkpoint *checkpoint);
/* All of the manifest: files, boxes, versions (inspect). Lives as long as the checkpoint. */
const gd_manifest *gd_checkpoint_manifest(const gd_checkpoint *checkpoint);
/* Logical tensors in it, sorted by name, and which kinds are there (mask of 1 << kind); of frozen tensors weights alone. */
const gd_tensor *gd_checkpoint_tensors(const gd_checkpoint *checkpoint, int32_t *count, uint32_t *kinds);
/* PATH/tokenizer. */
const char *gd_checkpoint_tokenizer(const gd_checkpoint *checkpoint);

/* Fills the boxes (indices into `tensors`, matched by name); reads only what overlaps. GD_BAD_DATA naming the tensor when it is
 * missing, has another shape, or an element is not covered. Local (each rank reads its own boxes). */
GD_CHECKED gd_status gd_checkpoint_read(const gd_checkpoint *checkpoint, const gd_tensor *tensors, gd_checkpoint_box *boxes,
                                        int32_t count);

/* SHA-256 over sorted (name, kind, dtype, logical shape, row-major bytes) and the run state: the same for every layout that
 * saved it. Streams; bounded memory. Local. */
GD_CHECKED gd_status gd_checkpoint_hash(const gd_checkpoint *checkpoint, char hex[65]);
void gd_checkpoint_close(gd_checkpoint *checkpoint);

#endif
