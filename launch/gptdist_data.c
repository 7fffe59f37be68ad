/* gptdist-data: text to token shards, tokenizers, and what is in a dataset. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "comm/session.h"
#include "io/base/json.h"
#include "io/data/dataset.h"
#include "io/data/prepare.h"
#include "io/data/split.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/train.h"
#include "launch/console.h"
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
  const char *format, *text_field, *invalid;
  int64_t text_column;
} input_options;

static gd_status read_input_options(const input_options *in, gd_corpus_options *out) {
  static const char *const formats[] = {"auto", "text", "jsonl", "csv", "tsv"};
  const char *format = in->format ? in->format : "auto", *invalid = in->invalid ? in->invalid : "error";
  size_t k = 0;
  while (k < sizeof formats / sizeof *formats && strcmp(format, formats[k]) != 0) k++;
  if (k == sizeof formats / sizeof *formats)
    return gd_fail_user(GD_USAGE, "--format: found \"%s\", expected auto, text, jsonl, csv or tsv", format);
  if (strcmp(invalid, "error") != 0 && strcmp(invalid, "replace") != 0)
    return gd_fail_user(GD_USAGE, "--invalid-utf8: found \"%s\", expected error or replace", invalid);
  *out = (gd_corpus_options){.format = (gd_corpus_format)k,
                             .text_field = in->text_field,
                             .text_column = in->text_column,
                             .replace_invalid = strcmp(invalid, "replace") == 0};
  return GD_OK;
}

#define INPUT_OPTIONS(in)                                                                                                  \
  {"--format", GD_OPTION_TEXT, &(in).format, "FORMAT", "auto (by name), text, jsonl, csv, tsv", 0, 0},                     \
      {"--text-field", GD_OPTION_TEXT, &(in).text_field, "NAME", "field or column that holds the text (text)", 0, 0},      \
      {"--text-column", GD_OPTION_INTEGER, &(in).text_column, "N", "csv, tsv without a header: column, from 1", 1, 1e6}, { \
    "--invalid-utf8", GD_OPTION_TEXT, &(in).invalid, "error|replace", "replace: U+FFFD in place of an error", 0, 0         \
  }

/* ---- prepare ---- */

static void print_report(const gd_prepare_report *report, const char *output, double elapsed, bool json) {
  double megabytes = (double)report->bytes * 1e-6;
  if (json) {
    printf(
        "{\"output\": \"%s\", \"bytes\": %lld, \"vocabulary\": %d, \"train_tokens\": %lld, \"train_documents\": %lld, "
        "\"validation_tokens\": %lld, \"validation_documents\": %lld, \"seconds\": %.3f}\n",
        output, (long long)report->bytes, report->vocabulary, (long long)report->tokens[0], (long long)report->documents[0],
        (long long)report->tokens[1], (long long)report->documents[1], elapsed);
    return;
  }
  static const char *const names[] = {"train", "validation"};
  for (int k = 0; k < 2; k++)
    if (report->shards[k])
      printf("%s/%s: %lld tokens, %lld documents, %d %s\n", output, names[k], (long long)report->tokens[k],
             (long long)report->documents[k], report->shards[k], report->shards[k] == 1 ? "shard" : "shards");
  printf("vocabulary %d; %.1f MB of text in %.1f s, %.1f MB/s\n", report->vocabulary, megabytes, elapsed,
         megabytes / (elapsed > 0 ? elapsed : 1));
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
  const gd_program program = {
      .name = "gptdist-data prepare",
      .purpose = "text files to a dataset of token shards",
      .usage = "--tokenizer SPEC --output DIR [--validation-fraction F] [--shard-tokens N] INPUT...",
      .more =
          "INPUT: .txt (a line <|endoftext|> parts documents), .jsonl, .csv, .tsv, each also .gz or .zst.\n"
          "Under mpirun the ranks share the work; the result does not depend on their number.",
      .options = table,
      .takes_arguments = true};
  gd_status status = gd_options_parse(&program, argc, argv, &line, &done);
  if (status != GD_OK || done) return status;
  if (!options.tokenizer || !options.output || !line.arguments)
    return gd_fail_user(GD_USAGE,
                        "prepare needs --tokenizer, --output and at least one input file; see gptdist-data prepare --help");
  GD_TRY(read_input_options(&in, &options.corpus));
  options.inputs = (const char *const *)line.argument;
  options.input_count = line.arguments;
  gd_session *session;
  gd_prepare_report report;
  double start = gd_machine_seconds();
  GD_TRY(gd_session_open(&session));
  status = gd_dataset_prepare(session, &options, &report);
  if (status == GD_OK && gd_session_rank(session) == 0)
    print_report(&report, options.output, gd_machine_seconds() - start, line.json);
  if (status != GD_OK) {
    /* The first rank that leaves with a fault ends the others, so it is told before any does. */
    gd_console_leave(status, false);
    told = true;
  }
  gd_session_close(session);
  return status;
}

/* ---- train-tokenizer ---- */

static gd_status verb_train_tokenizer(int argc, char **argv) {
  gd_tokenizer_train_options options = {0};
  input_options in = {0};
  static gd_command_line line;
  bool done = false;
  const gd_option table[] = {
      {"--vocab-size", GD_OPTION_INTEGER, &options.vocabulary, "N", "256 bytes, merges and <|endoftext|> together", 258, 1e6},
      {"--output", GD_OPTION_TEXT, &options.output, "DIR", "folder for vocab.json, merges.txt, tokenizer.json", 0, 0},
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
  options.inputs = (const char *const *)line.argument;
  options.input_count = line.arguments;
  gd_tokenizer_train_report report;
  double start = gd_machine_seconds();
  GD_TRY(gd_tokenizer_train(&options, &report));
  printf("%s: vocabulary %d, %lld merges, from %.1f MB of text with %lld different words, in %.1f s\n", options.output,
         report.vocabulary, (long long)report.merges, (double)report.bytes * 1e-6, (long long)report.words,
         gd_machine_seconds() - start);
  return GD_OK;
}

/* ---- encode and decode ---- */

typedef struct stream_options {
  const char *tokenizer;
  bool jsonl, special;
} stream_options;

static gd_status parse_stream(int argc, char **argv, const char *name, const char *purpose, bool encode, stream_options *out,
                              bool *done) {
  static gd_command_line line;
  const gd_option table[] = {
      {"--tokenizer", GD_OPTION_TEXT, &out->tokenizer, "SPEC", "gpt2:DIR, tiktoken:FILE, hf:FILE, llama2c:FILE, bytes, DIR", 0,
       0},
      {"--jsonl", GD_OPTION_FLAG, &out->jsonl, 0,
       encode ? "a JSON string a line in, an array of ids a line out" : "an array of ids a line in, a JSON string a line out",
       0, 0},
      {encode ? "--allow-special" : NULL, GD_OPTION_FLAG, &out->special, 0, "special tokens in the text become their ids", 0,
       0},
      {0},
  };
  const gd_program program = {.name = name,
                              .purpose = purpose,
                              .usage = "--tokenizer SPEC [--jsonl]  (standard input to standard output)",
                              .options = table};
  gd_status status = gd_options_parse(&program, argc, argv, &line, done);
  if (status == GD_OK && !*done && !out->tokenizer) return gd_fail_user(GD_USAGE, "%s needs --tokenizer SPEC", name);
  return status;
}

static gd_status read_stdin(gd_bytes *out) {
  for (;;) {
    GD_TRY(gd_bytes_reserve(out, 1 << 16));
    size_t got = fread(out->bytes + out->count, 1, out->capacity - out->count - 1, stdin);
    out->count += got;
    out->bytes[out->count] = 0;
    if (got) continue;
    return ferror(stdin) ? gd_fail(GD_IO, "cannot read standard input: %s", strerror(errno)) : GD_OK;
  }
}

static gd_status flush_stdout(void) {
  if (fflush(stdout) || ferror(stdout)) return gd_fail(GD_IO, "cannot write standard output: %s", strerror(errno));
  return GD_OK;
}

static gd_status encode_line(gd_tokenizer *tokenizer, const char *text, size_t count, int64_t number, bool special, gd_ids *ids,
                             gd_bytes *raw) {
  gd_json *root;
  ids->count = raw->count = 0;
  GD_TRY(gd_json_parse(text, count, "standard input", number, &root));
  gd_status status = gd_json_string(root)
                         ? gd_json_text(root, raw)
                         : gd_fail_user(GD_BAD_DATA, "standard input:%lld: expected a JSON string", (long long)number);
  gd_json_free(root);
  if (status == GD_OK) status = gd_tokenizer_encode(tokenizer, raw->bytes, raw->count, special, ids);
  if (status != GD_OK) return status;
  putchar('[');
  for (size_t i = 0; i < ids->count; i++) printf("%s%d", i ? ", " : "", ids->ids[i]);
  puts("]");
  return GD_OK;
}

static gd_status encode_stdin(gd_tokenizer *tokenizer, const stream_options *options) {
  gd_ids ids = {0};
  gd_bytes raw = {0};
  gd_status status = GD_OK;
  if (!options->jsonl) {
    status = read_stdin(&raw);
    if (status == GD_OK) status = gd_tokenizer_encode(tokenizer, raw.bytes, raw.count, options->special, &ids);
    for (size_t i = 0; status == GD_OK && i < ids.count; i++) printf("%s%d", i ? " " : "", ids.ids[i]);
    if (status == GD_OK) putchar('\n');
  } else {
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    for (int64_t number = 1; status == GD_OK && (length = getline(&text, &capacity, stdin)) > 0; number++) {
      while (length && (text[length - 1] == '\n' || text[length - 1] == '\r')) length--;
      if (length) status = encode_line(tokenizer, text, (size_t)length, number, options->special, &ids, &raw);
    }
    free(text);
  }
  gd_ids_free(&ids);
  gd_bytes_free(&raw);
  return status == GD_OK ? flush_stdout() : status;
}

static gd_status verb_encode(int argc, char **argv) {
  stream_options options = {0};
  bool done = false;
  GD_TRY(parse_stream(argc, argv, "gptdist-data encode", "text to token ids", true, &options, &done));
  if (done) return GD_OK;
  gd_tokenizer *tokenizer;
  GD_TRY(gd_tokenizer_open(options.tokenizer, &tokenizer));
  gd_status status = encode_stdin(tokenizer, &options);
  gd_tokenizer_close(tokenizer);
  return status;
}

/* Ids in text: numbers with spaces or commas between, brackets allowed around. */
static gd_status parse_ids(const char *text, int64_t number, gd_ids *ids) {
  ids->count = 0;
  for (const char *at = text; *at;) {
    if (strchr(" \t\r\n,[]", *at)) {
      at++;
      continue;
    }
    char *end;
    errno = 0;
    long value = strtol(at, &end, 10);
    if (end == at || errno || value < 0 || value > INT32_MAX)
      return gd_fail_user(GD_BAD_DATA, "standard input:%lld: found \"%.20s\", expected a token id", (long long)number, at);
    int32_t id = (int32_t)value;
    GD_TRY(gd_ids_append(ids, &id, 1));
    at = end;
  }
  return GD_OK;
}

static gd_status decode_stdin(gd_tokenizer *tokenizer, const stream_options *options) {
  gd_ids ids = {0};
  gd_bytes raw = {0}, quoted = {0};
  char *text = NULL;
  size_t capacity = 0;
  gd_status status = GD_OK;
  int32_t previous = -1;
  for (int64_t number = 1; status == GD_OK && getline(&text, &capacity, stdin) > 0; number++) {
    raw.count = quoted.count = 0;
    status = parse_ids(text, number, &ids);
    if (status == GD_OK) status = gd_tokenizer_decode(tokenizer, options->jsonl ? -1 : previous, ids.ids, ids.count, &raw);
    if (status == GD_OK && options->jsonl) {
      status = gd_json_quote(&quoted, raw.bytes ? raw.bytes : "", raw.count);
      if (status == GD_OK) puts(quoted.bytes);
    } else if (status == GD_OK) {
      fwrite(raw.bytes ? raw.bytes : "", 1, raw.count, stdout);
      if (ids.count) previous = ids.ids[ids.count - 1];
    }
  }
  free(text);
  gd_ids_free(&ids);
  gd_bytes_free(&raw);
  gd_bytes_free(&quoted);
  return status == GD_OK ? flush_stdout() : status;
}

static gd_status verb_decode(int argc, char **argv) {
  stream_options options = {0};
  bool done = false;
  GD_TRY(parse_stream(argc, argv, "gptdist-data decode", "token ids to text", false, &options, &done));
  if (done) return GD_OK;
  gd_tokenizer *tokenizer;
  GD_TRY(gd_tokenizer_open(options.tokenizer, &tokenizer));
  gd_status status = decode_stdin(tokenizer, &options);
  gd_tokenizer_close(tokenizer);
  return status;
}

/* ---- inspect and verify ---- */

static gd_status visit_split(const char *folder, bool verify, bool json) {
  gd_split *split;
  GD_TRY(gd_split_open(folder, &split));
  gd_status status = verify ? gd_split_verify(split) : GD_OK;
  const gd_token_shard_info *info = gd_split_info(split);
  if (status == GD_OK && json)
    printf(
        "{\"folder\": \"%s\", \"tokenizer\": \"%s\", \"tokenizer_digest\": \"%s\", \"vocabulary\": %d, \"eot\": %d, "
        "\"tokens\": %lld, "
        "\"documents\": %lld, \"shards\": %d, \"digest\": \"%s\"%s}\n",
        folder, info->tokenizer, info->tokenizer_digest, info->vocabulary, info->eot, (long long)info->tokens,
        (long long)info->documents, gd_split_shards(split), gd_split_digest(split), verify ? ", \"whole\": true" : "");
  else if (status == GD_OK)
    printf("%s: %lld tokens, %lld documents, %d shard%s, tokenizer %s (%.12s), vocabulary %d%s\n", folder,
           (long long)info->tokens, (long long)info->documents, gd_split_shards(split), gd_split_shards(split) == 1 ? "" : "s",
           info->tokenizer, info->tokenizer_digest, info->vocabulary, verify ? ", whole" : "");
  gd_split_close(split);
  return status;
}

static gd_status visit_tokenizer(const char *folder, const char *dataset) {
  char train[GD_PATH_BYTES];
  gd_tokenizer *tokenizer;
  gd_split *split;
  GD_TRY(gd_path_join(train, sizeof train, dataset, "train"));
  GD_TRY(gd_tokenizer_open(folder, &tokenizer));
  gd_status status = gd_split_open(train, &split);
  if (status == GD_OK && strcmp(gd_tokenizer_digest(tokenizer), gd_split_info(split)->tokenizer_digest) != 0)
    status = gd_fail_user(GD_BAD_DATA, "%s: its digest is %.12s, the token shards expect %.12s", folder,
                          gd_tokenizer_digest(tokenizer), gd_split_info(split)->tokenizer_digest);
  if (status == GD_OK) gd_split_close(split);
  gd_tokenizer_close(tokenizer);
  return status;
}

static gd_status visit_dataset(int argc, char **argv, bool verify) {
  static gd_command_line line;
  bool done = false;
  const gd_option none[] = {{0}};
  const gd_program program = {
      .name = verify ? "gptdist-data verify" : "gptdist-data inspect",
      .purpose = verify ? "reads a whole dataset and checks every digest, checksum and id" : "what is in a dataset",
      .usage = "DIR",
      .options = none,
      .takes_arguments = true};
  GD_TRY(gd_options_parse(&program, argc, argv, &line, &done));
  if (done) return GD_OK;
  if (line.arguments != 1)
    return gd_fail_user(GD_USAGE, "%s needs one dataset folder, found %d arguments", program.name, line.arguments);
  const char *folder = line.argument[0];
  char path[GD_PATH_BYTES];
  GD_TRY(gd_path_join(path, sizeof path, folder, "index.json"));
  GD_TRY(gd_path_named(folder, GD_PATH_FOLDER, "a dataset folder"));
  if (gd_file_exists(path)) return visit_split(folder, verify, line.json);
  static const char *const names[] = {"train", "validation"};
  for (int k = 0; k < 2; k++) {
    GD_TRY(gd_path_join(path, sizeof path, folder, names[k]));
    if (k == 0 && !gd_folder_exists(path))
      return gd_fail_user(GD_BAD_DATA, "%s: no train/ in it, expected a dataset folder", folder);
    if (gd_folder_exists(path)) GD_TRY(visit_split(path, verify, line.json));
  }
  GD_TRY(gd_path_join(path, sizeof path, folder, "tokenizer"));
  return verify ? visit_tokenizer(path, folder) : GD_OK;
}

static gd_status verb_inspect(int argc, char **argv) {
  return visit_dataset(argc, argv, false);
}
static gd_status verb_verify(int argc, char **argv) {
  return visit_dataset(argc, argv, true);
}

/* ---- at ---- */

static void print_row(const gd_dataset_place *place, const gd_spec *spec, int64_t row, int64_t draw, bool json) {
  const char *source = spec->data.path[place->source];
  if (json)
    printf(
        "{\"row\": %lld, \"draw\": %lld, \"source\": \"%s\", \"epoch\": %lld, \"window\": %lld, \"token\": %lld, \"file\": "
        "\"%s\", "
        "\"file_token\": %lld}\n",
        (long long)row, (long long)draw, source, (long long)place->epoch, (long long)place->window, (long long)place->token,
        place->file, (long long)place->file_token);
  else
    printf("row %lld: draw %lld, %s epoch %lld window %lld, tokens %lld to %lld, %s from %lld\n", (long long)row,
           (long long)draw, source, (long long)place->epoch, (long long)place->window, (long long)place->token,
           (long long)place->token + spec->batch.sequence, place->file, (long long)place->file_token);
}

static gd_status verb_at(int argc, char **argv) {
  static gd_command_line line;
  static gd_spec spec;
  static gd_config_origins origins;
  int64_t step = -1, ranks = 1, rank = 0;
  bool done = false;
  const gd_option table[] = {
      {"--step", GD_OPTION_INTEGER, &step, "S", "optimizer step, from 0", 0, 9e15},
      {"--ranks", GD_OPTION_INTEGER, &ranks, "N", "ranks of the job (1)", 1, 1e6},
      {"--rank", GD_OPTION_INTEGER, &rank, "R", "whose samples (0)", 0, 1e6},
      {0},
  };
  const gd_program program = {.name = "gptdist-data at",
                              .purpose = "which samples a rank sees at a step",
                              .usage = "--config F --step S [--ranks N] [--rank R]",
                              .options = table,
                              .takes_config = true};
  GD_TRY(gd_options_parse(&program, argc, argv, &line, &done));
  if (done) return GD_OK;
  GD_TRY(gd_options_load(&line, true, &spec, &origins));
  if (step < 0) return gd_fail_user(GD_USAGE, "at needs --step S");
  if (rank >= ranks)
    return gd_fail_user(GD_USAGE, "--rank: found %lld, expected 0 to %lld", (long long)rank, (long long)ranks - 1);
  int32_t length = spec.batch.sequence ? spec.batch.sequence : spec.model.context;
  gd_dataset *dataset;
  GD_TRY(gd_dataset_open(&spec.data, length, spec.batch.order, spec.run.seed, &dataset));
  if (!spec.model.vocabulary) spec.model.vocabulary = gd_dataset_vocabulary(dataset);
  gd_mesh mesh = {0};
  gd_status status = gd_spec_resolve(&spec, (int32_t)ranks);
  if (status == GD_OK)
    status = gd_mesh_init(&mesh, (int32_t)ranks, spec.parallel.tensor, spec.parallel.pipeline, spec.parallel.context);
  if (status == GD_OK) {
    /* Contiguous sequences of the global batch to each data rank: ZeRO stages 0 and 1. */
    int32_t coordinates[GD_AXES];
    gd_mesh_coordinates(&mesh, (int32_t)rank, coordinates);
    int64_t data = coordinates[GD_AXIS_DATA], share = spec.batch.global / mesh.size[GD_AXIS_DATA];
    for (int64_t row = 0; status == GD_OK && row < share; row++) {
      int64_t draw = step * spec.batch.global + data * share + row;
      gd_dataset_place place;
      status = gd_dataset_where(dataset, draw, &place);
      if (status == GD_OK) print_row(&place, &spec, row, draw, line.json);
    }
  }
  gd_dataset_close(dataset);
  return status;
}

/* ---- main ---- */

static const verb verbs[] = {
    {"prepare", verb_prepare, "text files to a dataset of token shards"},
    {"train-tokenizer", verb_train_tokenizer, "byte-pair encoding of one's own"},
    {"encode", verb_encode, "standard input to token ids"},
    {"decode", verb_decode, "token ids to text"},
    {"inspect", verb_inspect, "what is in a dataset"},
    {"verify", verb_verify, "is it whole"},
    {"at", verb_at, "which samples a rank sees at a step"},
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
