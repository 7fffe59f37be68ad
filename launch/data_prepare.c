/* data_prepare.c - gptdist-data prepare: text files to token shards, rows to the examples of a task. */
#include <stdio.h>
#include <string.h>

#include "comm/machine.h"
#include "comm/session.h"
#include "io/base/json.h"
#include "io/data/prepare.h"
#include "launch/console.h"
#include "launch/data_brought.h"
#include "launch/data_inputs.h"
#include "launch/data_task.h"
#include "launch/data_verbs.h"

bool gd_data_told;

typedef struct teller {
  double start, last;
} teller;

/* A line on stderr now and then: how much of the input, how fast, how long still. Sizes are those of the files as they lie
 * there, rank 0's share speaks for all. */
static void tell(void *context, const gd_prepare_progress *progress) {
  teller *at = context;
  double now = gd_machine_seconds(), elapsed = now - at->start;
  char line[160];
  if (now - at->last < gd_console_progress_seconds()) return;
  at->last = now;
  if (!progress->total) {
    snprintf(line, sizeof line, "%s: %.1f MB, %.1f MB/s", progress->phase, (double)progress->done * 1e-6,
             (double)progress->done * 1e-6 / elapsed);
  } else {
    double share = progress->mine > 0 ? (double)progress->done / (double)progress->mine : 1;
    bool writing = progress->phase[0] == 'w'; /* counts tokens */
    if (share > 1) share = 1;
    int used = snprintf(line, sizeof line, "%s: %.0f %% of %.1f %s", progress->phase, 100 * share,
                        (double)progress->total * 1e-6, writing ? "million tokens" : "MB");
    if (!writing && share > 0)
      snprintf(line + used, sizeof line - (size_t)used, ", %.1f MB/s, %.0f s left",
               share * (double)progress->total * 1e-6 / elapsed, elapsed * (1 - share) / share);
  }
  gd_console_progress(line);
}

static gd_status print_json(const gd_prepare_report *report, const char *output, double elapsed) {
  gd_bytes path = {0}, task = {0};
  gd_status status = gd_json_quote(&path, output, strlen(output));
  if (status == GD_OK) status = gd_bytes_append(&task, "", 0);
  if (status == GD_OK) status = gd_data_tell_task(report, true, &task);
  if (status == GD_OK)
    printf(
        "{\"output\": %s, \"bytes\": %lld, \"vocabulary\": %d, \"train_tokens\": %lld, \"train_documents\": %lld, "
        "\"validation_tokens\": %lld, \"validation_documents\": %lld, \"dropped_empty\": %lld%s, \"seconds\": %.3f}\n",
        path.bytes, (long long)report->bytes, report->vocabulary, (long long)report->tokens[0], (long long)report->documents[0],
        (long long)report->tokens[1], (long long)report->documents[1], (long long)report->dropped_empty, task.bytes, elapsed);
  gd_bytes_free(&path);
  gd_bytes_free(&task);
  return status;
}

static gd_status print_report(const gd_prepare_report *report, const char *output, double elapsed, bool json) {
  static const char *const names[GD_PREPARE_SPLITS] = {"train", "validation", "test"};
  double megabytes = (double)report->bytes * 1e-6;
  gd_bytes task = {0};
  if (json) return print_json(report, output, elapsed);
  for (int k = 0; k < GD_PREPARE_SPLITS; k++)
    if (report->shards[k])
      printf("%s/%s: %lld tokens, %lld documents, %d %s\n", output, names[k], (long long)report->tokens[k],
             (long long)report->documents[k], report->shards[k], report->shards[k] == 1 ? "shard" : "shards");
  gd_status status = gd_data_tell_task(report, false, &task);
  if (status == GD_OK && task.count) fputs(task.bytes, stdout);
  gd_bytes_free(&task);
  if (report->dropped_empty)
    printf("%lld %s with an empty column left out\n", (long long)report->dropped_empty,
           report->dropped_empty == 1 ? "row" : "rows");
  printf("vocabulary %d; %.1f MB of text in %.1f s, %.1f MB/s\n", report->vocabulary, megabytes, elapsed,
         megabytes / (elapsed > 0 ? elapsed : 1));
  return status;
}

static gd_status prepare(gd_prepare_options *options, const gd_inputs *inputs, bool json) {
  gd_session *session;
  gd_prepare_report report;
  double start = gd_machine_seconds();
  teller asked = {start, start};
  options->inputs = (const char *const *)inputs->path;
  options->input_count = inputs->count;
  options->progress = tell;
  options->progress_context = &asked;
  GD_TRY(gd_session_open(&session));
  gd_status status = gd_dataset_prepare(session, options, &report);
  gd_console_finish_progress();
  if (status == GD_OK && gd_session_rank(session) == 0)
    status = print_report(&report, options->output, gd_machine_seconds() - start, json);
  if (status != GD_OK) {
    /* The first rank that leaves with a fault ends the others, so it is told before any does. */
    gd_console_leave(status, false);
    gd_data_told = true;
  }
  gd_prepare_report_free(&report);
  gd_session_close(session);
  return status;
}

gd_status gd_data_prepare(int argc, char **argv) {
  gd_prepare_options options = {0};
  gd_data_inputs in = {0};
  gd_task_options task_in = {0};
  static gd_command_line line;
  bool done = false;
  const gd_option table[] = {
      {"--tokenizer", GD_OPTION_TEXT, &options.tokenizer, "SPEC",
       "gpt2:DIR, tiktoken:FILE, hf:FILE, llama2c:FILE, bytes, chars, DIR (also a dataset, checkpoint or run)", 0, 0},
      {"--add-special", GD_OPTION_TEXT, &options.add_specials, "A,B", "special tokens that the tokenizer gets behind its own",
       0, 0},
      {"--output", GD_OPTION_TEXT, &options.output, "DIR", "the dataset folder to write", 0, 0},
      {"--validation-fraction", GD_OPTION_NUMBER, &options.validation_fraction, "F",
       "part of the documents kept for validation (0)", 0, 0.99},
      {"--shard-tokens", GD_OPTION_INTEGER, &options.shard_tokens, "N", "tokens a shard (100000000)", 1, 1e12},
      {"--force", GD_OPTION_FLAG, &options.force, 0, "replace an existing DIR", 0, 0},
      GD_DATA_TASK_OPTIONS(task_in),
      GD_DATA_INPUTS(in),
      {0},
  };
  const gd_program program = {
      .name = "gptdist-data prepare",
      .purpose = "text files to a dataset of token shards",
      .usage =
          "--tokenizer SPEC --output DIR [--validation-fraction F] [--shard-tokens N] INPUT...\n"
          "       --task classification --columns label=1,text=2 [--split F,F,F] ... INPUT...\n"
          "       --task sft [--columns prompt=1,response=2] [--template NAME] ... INPUT...",
      .more =
          "INPUT: .txt, .md (a line <|endoftext|> parts documents), .jsonl, .json (an array of "
          "objects), .csv, .tsv, each also .gz\n"
          "or .zst; a folder, for all such files below it; a pattern in quotes; - for standard input.\n"
          "--columns: of classification label and text (several labels: any number a text); of sft prompt and response, or\n"
          "instruction, input and output (the default), or messages; the former also with a system.\n"
          "Under mpirun the ranks share the work; the result does not depend on their number.",
      .options = table,
      .takes_arguments = true};
  gd_status status = gd_options_parse(&program, argc, argv, &line, &done);
  if (status != GD_OK || done) return status;
  if (!options.tokenizer || !options.output || !line.arguments)
    return gd_fail_user(GD_USAGE,
                        "prepare needs --tokenizer, --output and at least one input file; see gptdist-data prepare --help");
  char tokenizer[GD_PATH_BYTES];
  GD_TRY(gd_data_tokenizer_spec(options.tokenizer, tokenizer, &options.tokenizer));
  GD_TRY(gd_data_read_inputs(&in, &options.corpus));
  gd_inputs inputs = {0};
  gd_task_words task;
  status = gd_data_read_task(&task_in, &task, &options);
  if (status == GD_OK) status = gd_data_expand(&line, options.corpus.format, &inputs);
  if (status == GD_OK) status = prepare(&options, &inputs, line.json);
  gd_task_words_free(&task);
  gd_inputs_free(&inputs);
  return status;
}
