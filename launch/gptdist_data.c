/* gptdist_data.c - gptdist-data: text to token shards, tokenizers, and what is in a dataset. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "comm/session.h"
#include "io/base/json.h"
#include "io/tokenizer/train.h"
#include "launch/console.h"
#include "launch/data_inputs.h"
#include "launch/data_verbs.h"
#include "launch/options.h"

/* One verb: parses its own line and runs. */
typedef struct verb {
  const char *name;
  gd_status (*run)(int argc, char **argv);
  const char *help;
} verb;

/* ---- train-tokenizer ---- */

static gd_status print_training(const gd_tokenizer_train_report *report, const char *output, double elapsed, bool json) {
  if (!json) {
    printf("%s: vocabulary %d, %lld merges, from %.1f MB of text with %lld different words, in %.1f s\n", output,
           report->vocabulary, (long long)report->merges, (double)report->bytes * 1e-6, (long long)report->words, elapsed);
    return GD_OK;
  }
  gd_bytes path = {0};
  gd_status status = gd_json_quote(&path, output, strlen(output));
  if (status == GD_OK)
    printf("{\"output\": %s, \"vocabulary\": %d, \"merges\": %lld, \"bytes\": %lld, \"words\": %lld, \"seconds\": %.3f}\n",
           path.bytes, report->vocabulary, (long long)report->merges, (long long)report->bytes, (long long)report->words,
           elapsed);
  gd_bytes_free(&path);
  return status;
}

static gd_status verb_train_tokenizer(int argc, char **argv) {
  gd_tokenizer_train_options options = {0};
  gd_data_inputs in = {0};
  static gd_command_line line;
  bool done = false;
  const gd_option table[] = {
      {"--vocab-size", GD_OPTION_INTEGER, &options.vocabulary, "N", "256 bytes, merges and <|endoftext|> together", 258, 1e6},
      {"--output", GD_OPTION_TEXT, &options.output, "DIR", "folder for vocab.json, merges.txt, tokenizer.json (Hugging Face)",
       0, 0},
      {"--force", GD_OPTION_FLAG, &options.force, 0, "replace the files of an existing DIR", 0, 0},
      GD_DATA_INPUTS(in),
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
  GD_TRY(gd_data_read_inputs(&in, &options.corpus));
  gd_inputs inputs;
  gd_tokenizer_train_report report;
  double start = gd_machine_seconds();
  status = gd_data_expand(&line, options.corpus.format, &inputs);
  options.inputs = (const char *const *)inputs.path;
  options.input_count = inputs.count;
  if (status == GD_OK) status = gd_tokenizer_train(&options, &report);
  gd_inputs_free(&inputs);
  return status == GD_OK ? print_training(&report, options.output, gd_machine_seconds() - start, line.json) : status;
}

/* ---- main ---- */

static const verb verbs[] = {
    {"prepare", gd_data_prepare, "text files to a dataset of token shards"},
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
  if (more.count) more.bytes[--more.count] = 0; /* the last newline is print_help's */
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
  int code = gd_data_told ? (int)status : gd_console_leave(status, false);
  gd_console_close();
  return code;
}
