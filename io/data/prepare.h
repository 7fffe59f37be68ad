/* prepare.h - text files to a dataset folder: OUTPUT/train, OUTPUT/validation, OUTPUT/tokenizer, of a task also OUTPUT/test.
 *
 * The ranks of a job share the work; the folder is the same, byte for byte, whatever their number. Work goes through a folder
 * OUTPUT.tmp-<id> beside the output (it holds the ids twice for a while) that is renamed at the end. Examples of a task are
 * few beside plain text: they are held in memory and made by rank 0 alone. */
#ifndef GD_IO_DATA_PREPARE_H
#define GD_IO_DATA_PREPARE_H

#include "comm/session.h"
#include "io/data/task.h"
#include "io/data/template.h"
#include "io/text/corpus.h"

/* How far this rank is: bytes of its share of the input files (as they lie on the disk) and of the whole, then tokens written.
 * total 0: not known, standard input or a pipe. Called often: the receiver chooses when to speak. */
typedef struct gd_prepare_progress {
  const char *phase; /* "encode", "write" */
  int64_t done, mine, total;
} gd_prepare_progress;

/* What a column of corpus.columns is to a task. */
typedef enum gd_column_role {
  GD_ROLE_TEXT,
  GD_ROLE_LABEL,
  GD_ROLE_SYSTEM,
  GD_ROLE_PROMPT,
  GD_ROLE_RESPONSE,
  GD_ROLE_INSTRUCTION,
  GD_ROLE_INPUT,
  GD_ROLE_OUTPUT,
  GD_ROLE_MESSAGES
} gd_column_role;
enum { GD_COLUMN_ROLES = GD_ROLE_MESSAGES + 1 };

/* What becomes of a talk that is longer than max_tokens. */
typedef enum gd_too_long {
  GD_LONG_DROP,  /* it is left out and counted */
  GD_LONG_CUT,   /* it loses its oldest turns, those of the system last; one that is too long even so is left out */
  GD_LONG_REFUSE /* GD_BAD_DATA */
} gd_too_long;

/* What becomes of a row whose text, or prompt, stands in a later split, too: only with files of their own. */
typedef enum gd_repeated {
  GD_REPEATED_DROP, /* it is left out and counted */
  GD_REPEATED_KEEP, /* counted */
  GD_REPEATED_REFUSE
} gd_repeated;

enum { GD_PREPARE_SPLITS = 3 }; /* train, validation, test */

typedef struct gd_prepare_task {
  gd_data_task_kind kind;
  const gd_column_role *roles;     /* [corpus.column_count] */
  double split[GD_PREPARE_SPLITS]; /* fractions of the inputs, their sum is 1 (0 of the test beside files for it); all 0: all
                                      are for training */
  const char *const *held[2];      /* [held_count] files of validation and test */
  int32_t held_count[2];
  const gd_data_task *known; /* classification: these labels keep their numbers, others come behind; NULL: none are known */
  gd_repeated repeated;      /* rows of training and validation whose text a later split has */
  uint64_t seed;             /* of the split */
  int64_t max_tokens;        /* of an example; 0: any length */
  bool cut_head;             /* classification: a longer text is cut by its head, not by its tail */
  const gd_template *layout; /* sft */
  gd_too_long too_long;      /* sft */
  bool loss_all;             /* sft: all tokens but the first are targets, not the responses and their end tokens alone */
} gd_prepare_task;

typedef struct gd_prepare_options {
  const char *const *inputs;
  int32_t input_count;
  const char *tokenizer;    /* SPEC; "chars" is built from the inputs */
  const char *add_specials; /* "A,B": special tokens that it gets behind its own; NULL: none */
  const char *output;
  double validation_fraction; /* of the documents, or the tail of a single document; in [0, 1) */
  int64_t shard_tokens;       /* 0: 100 million */
  bool force;                 /* replaces an existing OUTPUT */
  gd_prepare_task task;       /* all zeros: plain text */
  gd_corpus_options corpus;   /* cut is set by the tokenizer */
  void (*progress)(void *context, const gd_prepare_progress *progress); /* NULL: nobody asks */
  void *progress_context;
} gd_prepare_options;

typedef struct gd_prepare_report {
  int64_t bytes;                                                   /* of text */
  int64_t tokens[GD_PREPARE_SPLITS], documents[GD_PREPARE_SPLITS]; /* a document cut in two counts in both */
  int32_t shards[GD_PREPARE_SPLITS];
  int32_t vocabulary;
  int64_t dropped_empty; /* records left out because a column was empty */
  /* of a task */
  int64_t cut;      /* texts cut to max_tokens, or talks that lost turns by it */
  int64_t repeated; /* rows whose text stands in a later split, too: only with files of their own */
  bool keeps_repeated;
  int64_t disputed;                   /* rows whose text stands there with other labels before */
  int64_t targets[GD_PREPARE_SPLITS]; /* sft: tokens that are targets */
  int64_t dropped_long;               /* sft: talks left out because they are too long */
  int64_t differs;                    /* sft: talks in which prompt and response as one text would have other ids */
  gd_data_task task;
  int64_t *label_documents; /* [GD_PREPARE_SPLITS][task.label_count]: documents that have a label */
} gd_prepare_report;
void gd_prepare_report_free(gd_prepare_report *report);

/* Collective over the job. The same status on every rank: GD_USAGE (output exists, no such input), GD_BAD_DATA (input, no text
 * at all, a label that training never saw), GD_IO (disk full: nothing is published, an existing OUTPUT stays). `report` is
 * filled on every rank, of a task on rank 0; gd_prepare_report_free in any case. */
GD_CHECKED gd_status gd_dataset_prepare(gd_session *session, const gd_prepare_options *options, gd_prepare_report *report);

#endif
