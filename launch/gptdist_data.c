/* gptdist_data.c - gptdist-data: text to token shards, tokenizers, and what is in a dataset. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "comm/session.h"
#include "io/base/json.h"
#include "io/data/prepare.h"
#include "io/text/inputs.h"
#include "io/tokenizer/train.h"
#include "launch/console.h"
#include "launch/data_verbs.h"
#include "launch/options.h"

/* One verb: parses its own line and runs. */
typedef struct verb {
  const char *name;
  gd_status (*run)(int argc, char **argv);
  const char *help;
} verb;

static bool told; /* the fault was printed already */

/* Options that say how inputs are read, shared by prepare and train-tokenizer. */
typedef struct input_options {
  const char *format, *text_field, *invalid, *separator, *empty;
  int64_t text_column;
} input_options;

static gd_status read_input_options(const input_options *in, gd_corpus_options *out) {
  static const char *const formats[] = {"auto", "text", "jsonl", "json", "csv", "tsv"};
  const char *format = in->format ? in->format : "auto", *invalid = in->invalid ? in->invalid : "error";
  const char *empty = in->empty ? in->empty : "error";
  size_t k = 0;
  while (k < sizeof formats / sizeof *formats && strcmp(format, formats[k]) != 0) k++;
  if (k == sizeof formats / sizeof *formats)
    return gd_fail_user(GD_USAGE, "--format: found \"%s\", expected auto, text, jsonl, json, csv or tsv", format);
  if (strcmp(invalid, "error") != 0 && strcmp(invalid, "replace") != 0)
    return gd_fail_user(GD_USAGE, "--invalid-utf8: found \"%s\", expected error or replace", invalid);
  if (strcmp(empty, "error") != 0 && strcmp(empty, "drop") != 0)
    return gd_fail_user(GD_USAGE, "--empty: found \"%s\", expected error or drop", empty);
  if (in->separator && (!in->separator[0] || strchr(in->separator, '\n')))
    return gd_fail_user(GD_USAGE, "--document-separator: found \"%s\", expected the text of one line", in->separator);
  *out = (gd_corpus_options){.format = (gd_corpus_format)k,
                             .separator = in->separator,
                             .text_field = in->text_field,
                             .text_column = in->text_column,
                             .drop_empty = strcmp(empty, "drop") == 0,
                             .replace_invalid = strcmp(invalid, "replace") == 0};
  return GD_OK;
}

#define INPUT_OPTIONS(in)                                                                                                \
  {"--format", GD_OPTION_TEXT, &(in).format, "FORMAT", "auto (by name), text, jsonl, json, csv, tsv", 0, 0},             \
      {"--document-separator",                                                                                           \
       GD_OPTION_TEXT,                                                                                                   \
       &(in).separator,                                                                                                  \
       "TEXT",                                                                                                           \
       "text: the line between documents (<|endoftext|>)",                                                               \
       0,                                                                                                                \
       0},                                                                                                               \
      {"--text-field", GD_OPTION_TEXT, &(in).text_field, "NAME", "field or column that holds the text (text)", 0, 0},    \
      {"--text-column", GD_OPTION_INTEGER, &(in).text_column, "N", "csv, tsv without a header: column, from 1", 1, 1e6}, \
      {"--empty", GD_OPTION_TEXT, &(in).empty, "error|drop", "drop: leave out and count rows of an empty text", 0, 0}, { \
    "--invalid-utf8", GD_OPTION_TEXT, &(in).invalid, "error|replace", "replace: U+FFFD in place of an error", 0, 0       \
  }

/* ---- prepare ---- */

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

static gd_status quote(gd_bytes *out, const char *text) {
  return gd_json_quote(out, text, strlen(text));
}

static gd_status print_report(const gd_prepare_report *report, const char *output, double elapsed, bool json) {
  double megabytes = (double)report->bytes * 1e-6;
  if (json) {
    gd_bytes path = {0};
    gd_status status = quote(&path, output);
    if (status == GD_OK)
      printf(
          "{\"output\": %s, \"bytes\": %lld, \"vocabulary\": %d, \"train_tokens\": %lld, \"train_documents\": %lld, "
          "\"validation_tokens\": %lld, \"validation_documents\": %lld, \"dropped_empty\": %lld, \"seconds\": %.3f}\n",
          path.bytes, (long long)report->bytes, report->vocabulary, (long long)report->tokens[0],
          (long long)report->documents[0], (long long)report->tokens[1], (long long)report->documents[1],
          (long long)report->dropped_empty, elapsed);
    gd_bytes_free(&path);
    return status;
  }
  static const char *const names[] = {"train", "validation"};
  for (int k = 0; k < 2; k++)
    if (report->shards[k])
      printf("%s/%s: %lld tokens, %lld documents, %d %s\n", output, names[k], (long long)report->tokens[k],
             (long long)report->documents[k], report->shards[k], report->shards[k] == 1 ? "shard" : "shards");
  if (report->dropped_empty)
    printf("%lld %s of an empty text left out\n", (long long)report->dropped_empty,
           report->dropped_empty == 1 ? "row" : "rows");
  printf("vocabulary %d; %.1f MB of text in %.1f s, %.1f MB/s\n", report->vocabulary, megabytes, elapsed,
         megabytes / (elapsed > 0 ? elapsed : 1));
  return GD_OK;
}

/* What the words of the line mean; what a folder has beside it is said. */
static gd_status expand(const gd_command_line *line, gd_corpus_format format, gd_inputs *out) {
  GD_TRY(gd_inputs_expand((const char *const *)line->argument, line->arguments, format, out));
  if (out->skipped)
    gd_log(GD_LOG_WARNING, "%d %s of unknown format left out, the first is %s; see --format", out->skipped,
           out->skipped == 1 ? "file" : "files", out->first_skipped ? out->first_skipped : "");
  return GD_OK;
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
    told = true;
  }
  gd_session_close(session);
  return status;
}

static gd_status verb_prepare(int argc, char **argv) {
  gd_prepare_options options = {0};
  input_options in = {0};
  static gd_command_line line;
  bool done = false;
  const gd_option table[] = {
      {"--tokenizer", GD_OPTION_TEXT, &options.tokenizer, "SPEC",
       "gpt2:DIR, tiktoken:FILE, hf:FILE, llama2c:FILE, bytes, chars, DIR", 0, 0},
      {"--output", GD_OPTION_TEXT, &options.output, "DIR", "the dataset folder to write", 0, 0},
      {"--validation-fraction", GD_OPTION_NUMBER, &options.validation_fraction, "F",
       "part of the documents kept for validation (0)", 0, 0.99},
      {"--shard-tokens", GD_OPTION_INTEGER, &options.shard_tokens, "N", "tokens a shard (100000000)", 1, 1e12},
      {"--force", GD_OPTION_FLAG, &options.force, 0, "replace an existing DIR", 0, 0},
      INPUT_OPTIONS(in),
      {0},
  };
  const gd_program program = {.name = "gptdist-data prepare",
                              .purpose = "text files to a dataset of token shards",
                              .usage = "--tokenizer SPEC --output DIR [--validation-fraction F] [--shard-tokens N] INPUT...",
                              .more =
                                  "INPUT: .txt, .md (a line <|endoftext|> parts documents), .jsonl, .json (an array of "
                                  "objects), .csv, .tsv, each also .gz\n"
                                  "or .zst; a folder, for all such files below it; a pattern in quotes; - for standard input.\n"
                                  "Under mpirun the ranks share the work; the result does not depend on their number.",
                              .options = table,
                              .takes_arguments = true};
  gd_status status = gd_options_parse(&program, argc, argv, &line, &done);
  if (status != GD_OK || done) return status;
  if (!options.tokenizer || !options.output || !line.arguments)
    return gd_fail_user(GD_USAGE,
                        "prepare needs --tokenizer, --output and at least one input file; see gptdist-data prepare --help");
  GD_TRY(read_input_options(&in, &options.corpus));
  gd_inputs inputs;
  status = expand(&line, options.corpus.format, &inputs);
  if (status == GD_OK) status = prepare(&options, &inputs, line.json);
  gd_inputs_free(&inputs);
  return status;
}

/* ---- train-tokenizer ---- */

static gd_status print_training(const gd_tokenizer_train_report *report, const char *output, double elapsed, bool json) {
  if (!json) {
    printf("%s: vocabulary %d, %lld merges, from %.1f MB of text with %lld different words, in %.1f s\n", output,
           report->vocabulary, (long long)report->merges, (double)report->bytes * 1e-6, (long long)report->words, elapsed);
    return GD_OK;
  }
  gd_bytes path = {0};
  gd_status status = quote(&path, output);
  if (status == GD_OK)
    printf("{\"output\": %s, \"vocabulary\": %d, \"merges\": %lld, \"bytes\": %lld, \"words\": %lld, \"seconds\": %.3f}\n",
           path.bytes, report->vocabulary, (long long)report->merges, (long long)report->bytes, (long long)report->words,
           elapsed);
  gd_bytes_free(&path);
  return status;
}

static gd_status verb_train_tokenizer(int argc, char **argv) {
  gd_tokenizer_train_options options = {0};
  input_options in = {0};
  static gd_command_line line;
  bool done = false;
  const gd_option table[] = {
      {"--vocab-size", GD_OPTION_INTEGER, &options.vocabulary, "N", "256 bytes, merges and <|endoftext|> together", 258, 1e6},
      {"--output", GD_OPTION_TEXT, &options.output, "DIR", "folder for vocab.json, merges.txt, tokenizer.json (Hugging Face)",
       0, 0},
      {"--force", GD_OPTION_FLAG, &options.force, 0, "replace the files of an existing DIR", 0, 0},
      INPUT_OPTIONS(in),
      {0},
  };
  const gd_program program = {.name = "gptdist-data train-tokenizer",
                              .purpose = "byte-pair encoding of one's own, in GPT-2's style",
                              .usage = "--vocab-size N --output DIR INPUT...",
                              .options = table,
                              .takes_arguments = true};
  gd_status status = gd_options_parse(&program, argc, argv, &line, &done);
  if (status != GD_OK || done) return status;
  if (!options.vocabulary || !options.output || !line.arguments)
    return gd_fail_user(GD_USAGE, "train-tokenizer needs --vocab-size, --output and at least one input file");
  GD_TRY(read_input_options(&in, &options.corpus));
  gd_inputs inputs;
  gd_tokenizer_train_report report;
  double start = gd_machine_seconds();
  status = expand(&line, options.corpus.format, &inputs);
  options.inputs = (const char *const *)inputs.path;
  options.input_count = inputs.count;
  if (status == GD_OK) status = gd_tokenizer_train(&options, &report);
  gd_inputs_free(&inputs);
  return status == GD_OK ? print_training(&report, options.output, gd_machine_seconds() - start, line.json) : status;
}

/* ---- main ---- */

static const verb verbs[] = {
    {"prepare", verb_prepare, "text files to a dataset of token shards"},
    {"train-tokenizer", verb_train_tokenizer, "byte-pair encoding of one's own"},
    {"encode", gd_data_encode, "standard input to token ids"},
    {"decode", gd_data_decode, "token ids to text"},
    {"inspect", gd_data_inspect, "what is in a dataset"},
    {"verify", gd_data_verify, "is it whole"},
    {"at", gd_data_at, "which samples a rank sees at a step"},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static gd_status run(int argc, char **argv) {
  if (argc > 1 && argv[1][0] != '-') {
    for (int i = 0; i < VERBS; i++)
      if (strcmp(argv[1], verbs[i].name) == 0) return verbs[i].run(argc - 1, argv + 1);
    const char *nearest = "";
    int best = INT32_MAX;
    for (int i = 0; i < VERBS; i++) {
      int distance = gd_config_distance(argv[1], verbs[i].name);
      if (distance < best) {
        best = distance;
        nearest = verbs[i].name;
      }
    }
    return gd_fail_user(GD_USAGE, "%s: unknown command; did you mean \"%s\"?", argv[1], nearest);
  }
  gd_bytes more = {0};
  gd_status status = gd_bytes_printf(&more, "commands (each has its own --help):\n");
  for (int i = 0; status == GD_OK && i < VERBS; i++)
    status = gd_bytes_printf(&more, "  %-28s %s\n", verbs[i].name, verbs[i].help);
  if (status == GD_OK)
    status = gd_bytes_printf(&more,
                             "\nExit codes: 0 done, 64 usage, 65 bad data or tokenizer, 70 internal error, 71 out of memory, "
                             "74 input/output,\n76 a rank failed.");
  static gd_command_line line;
  const gd_option none[] = {{0}};
  bool done = false;
  const gd_program program = {.name = "gptdist-data",
                              .purpose = "text to token shards, tokenizers, what is in a dataset",
                              .usage = "COMMAND [OPTIONS] [ARGUMENTS]",
                              .more = more.bytes,
                              .options = none,
                              .takes_arguments = true};
  if (status == GD_OK) status = gd_options_parse(&program, argc, argv, &line, &done);
  gd_bytes_free(&more);
  if (status == GD_OK && !done) status = gd_fail_user(GD_USAGE, "expected a command; see gptdist-data --help");
  return status;
}

int main(int argc, char **argv) {
  gd_launch_environment environment;
  gd_session_environment(&environment);
  gd_console_open("gptdist-data", environment.rank);
  gd_status status = run(argc, argv);
  if (!told) gd_console_leave(status, false);
  gd_console_close();
  return (int)status;
}
