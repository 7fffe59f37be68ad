/* resume.h - which checkpoint a run goes on from, and whether it is one of this run with this data. What a run began with
 * (model.init_from) is not asked any more: shape, labels and tokenizer are the checkpoint's. */
#ifndef GD_TRAINER_RESUME_H
#define GD_TRAINER_RESUME_H

#include "io/checkpoint/checkpoint.h"
#include "io/data/dataset.h"

typedef enum gd_resume_kind { GD_RESUME_AUTO, GD_RESUME_NONE, GD_RESUME_FROM } gd_resume_kind;

/* --resume auto (the newest one of run.directory), none, or a name. */
typedef struct gd_resume {
  gd_resume_kind kind;
  const char *from; /* GD_RESUME_FROM: a checkpoint, a run folder or RUN@... */
} gd_resume;

/* The checkpoint to go on from, by its manifest alone, nothing renamed; *out = NULL: the run starts. directory: run.directory.
 * Local. GD_USAGE, GD_BAD_DATA, GD_IO. */
GD_CHECKED gd_status gd_resume_peek(const gd_resume *resume, const char *directory, gd_checkpoint **out);

/* The same, whole, by who owns the run directory: damaged ones are set aside; with GD_RESUME_NONE all that are there get other
 * names before the new run takes theirs, or is taken for theirs. Collective over the job. */
GD_CHECKED gd_status gd_resume_open(gd_session *session, const gd_resume *resume, const char *directory, gd_checkpoint **out);

/* Whether the data is for the checkpoint's task, with its labels and template, and, where `tokenizer` asks for it, of its
 * tokenizer: the same files, those with more special tokens behind, or others of which each id is the same text. Local.
 * GD_USAGE. */
GD_CHECKED gd_status gd_resume_check_data(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_dataset *data,
                                          bool tokenizer);

/* Whether its keys may differ as they do (gd_config_resume), and the same tensors learn; `allowed`: as there. Local, rank's
 * layout. GD_USAGE. */
GD_CHECKED gd_status gd_resume_check_spec(const gd_checkpoint *checkpoint, const gd_spec *spec, const gd_mesh *mesh,
                                          int32_t rank, const char *allowed);

#endif
