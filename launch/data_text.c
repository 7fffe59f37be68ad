/* data_text.c - gptdist-data encode and decode: text to ids and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/base/json.h"
#include "io/tokenizer/tokenizer.h"
#include "launch/data_brought.h"
#include "launch/data_verbs.h"
#include "launch/options.h"

typedef struct stream_options {
  const char *tokenizer;
  bool jsonl, json, special;
  const char *name; /* of the input, for messages */
  FILE *input;
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
                              .usage = "--tokenizer SPEC [--jsonl] [FILE]  (no FILE or -: standard input) to standard output",
                              .options = table,
                              .takes_arguments = true};
  GD_TRY(gd_options_parse(&program, argc, argv, &line, done));
  if (*done) return GD_OK;
  if (!out->tokenizer) return gd_fail_user(GD_USAGE, "%s needs --tokenizer SPEC", name);
  if (line.arguments > 1) return gd_fail_user(GD_USAGE, "%s reads one file, found %d", name, line.arguments);
  out->json = line.json;
  out->name = "standard input";
  out->input = stdin;
  if (line.arguments == 0 || strcmp(line.argument[0], "-") == 0) return GD_OK;
  out->name = line.argument[0];
  GD_TRY(gd_path_named(out->name, GD_PATH_FILE, "a file to read"));
  out->input = fopen(out->name, "rbe");
  return out->input ? GD_OK : gd_fail(GD_IO, "cannot open %s: %s", out->name, strerror(errno));
}

static gd_status open_tokenizer(const char *spec, gd_tokenizer **out) {
  char memory[GD_PATH_BYTES];
  GD_TRY(gd_data_tokenizer_spec(spec, memory, &spec));
  return gd_tokenizer_open(spec, out);
}

static gd_status read_all(const stream_options *options, gd_bytes *out) {
  for (;;) {
    GD_TRY(gd_bytes_reserve(out, 1 << 16));
    size_t got = fread(out->bytes + out->count, 1, out->capacity - out->count - 1, options->input);
    out->count += got;
    out->bytes[out->count] = 0;
    if (got) continue;
    return ferror(options->input) ? gd_fail(GD_IO, "cannot read %s: %s", options->name, strerror(errno)) : GD_OK;
  }
}

static gd_status flush_stdout(void) {
  if (fflush(stdout) || ferror(stdout)) return gd_fail(GD_IO, "cannot write standard output: %s", strerror(errno));
  return GD_OK;
}

/* Ids with `between` them; printf would take as long as encoding does. */
static void print_ids(const gd_ids *ids, const char *between) {
  for (size_t i = 0; i < ids->count; i++) {
    char digits[16], *at = digits + sizeof digits;
    int32_t id = ids->ids[i];
    do *--at = (char)('0' + id % 10);
    while (id /= 10);
    if (i) fputs_unlocked(between, stdout);
    fwrite_unlocked(at, 1, (size_t)(digits + sizeof digits - at), stdout);
  }
}

static gd_status encode_line(gd_tokenizer *tokenizer, const char *text, size_t count, int64_t number,
                             const stream_options *options, gd_ids *ids, gd_bytes *raw) {
  gd_json *root;
  ids->count = raw->count = 0;
  GD_TRY(gd_json_parse(text, count, options->name, number, &root));
  gd_status status = gd_json_string(root)
                         ? gd_json_text(root, raw)
                         : gd_fail_user(GD_BAD_DATA, "%s:%lld: expected a JSON string", options->name, (long long)number);
  gd_json_free(root);
  if (status == GD_OK) status = gd_tokenizer_encode(tokenizer, raw->bytes, raw->count, options->special, ids);
  if (status != GD_OK) return status;
  putchar('[');
  print_ids(ids, ", ");
  puts("]");
  return GD_OK;
}

static gd_status encode_input(gd_tokenizer *tokenizer, const stream_options *options) {
  gd_ids ids = {0};
  gd_bytes raw = {0};
  gd_status status = GD_OK;
  if (!options->jsonl) {
    status = read_all(options, &raw);
    if (status == GD_OK) status = gd_tokenizer_encode(tokenizer, raw.bytes, raw.count, options->special, &ids);
    if (status == GD_OK && options->json) fputs("{\"ids\": [", stdout);
    if (status == GD_OK) print_ids(&ids, options->json ? ", " : " ");
    if (status == GD_OK) puts(options->json ? "]}" : "");
  } else {
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    for (int64_t number = 1; status == GD_OK && (length = getline(&text, &capacity, options->input)) > 0; number++) {
      while (length && (text[length - 1] == '\n' || text[length - 1] == '\r')) length--;
      if (length) status = encode_line(tokenizer, text, (size_t)length, number, options, &ids, &raw);
    }
    free(text);
  }
  gd_ids_free(&ids);
  gd_bytes_free(&raw);
  return status == GD_OK ? flush_stdout() : status;
}

gd_status gd_data_encode(int argc, char **argv) {
  stream_options options = {0};
  bool done = false;
  GD_TRY(parse_stream(argc, argv, "gptdist-data encode", "text to token ids", true, &options, &done));
  if (done) return GD_OK;
  gd_tokenizer *tokenizer = NULL;
  gd_status status = open_tokenizer(options.tokenizer, &tokenizer);
  if (status == GD_OK) status = encode_input(tokenizer, &options);
  gd_tokenizer_close(tokenizer);
  if (options.input != stdin) fclose(options.input);
  return status;
}

/* Ids in text: numbers with spaces or commas between, brackets allowed around. */
static gd_status parse_ids(const char *text, const char *name, int64_t number, gd_ids *ids) {
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
      return gd_fail_user(GD_BAD_DATA, "%s:%lld: found \"%.20s\", expected a token id", name, (long long)number, at);
    int32_t id = (int32_t)value;
    GD_TRY(gd_ids_append(ids, &id, 1));
    at = end;
  }
  return GD_OK;
}

static gd_status decode_input(gd_tokenizer *tokenizer, const stream_options *options) {
  gd_ids ids = {0};
  gd_bytes raw = {0}, quoted = {0};
  char *text = NULL;
  size_t capacity = 0;
  gd_status status = GD_OK;
  int32_t previous = -1;
  const bool lines = options->jsonl || options->json;
  for (int64_t number = 1; status == GD_OK && getline(&text, &capacity, options->input) > 0; number++) {
    raw.count = quoted.count = 0;
    status = parse_ids(text, options->name, number, &ids);
    if (status == GD_OK) status = gd_tokenizer_decode(tokenizer, options->jsonl ? -1 : previous, ids.ids, ids.count, &raw);
    if (status == GD_OK && lines) {
      status = gd_json_quote(&quoted, raw.bytes ? raw.bytes : "", raw.count);
      bool bare = options->jsonl;
      if (status == GD_OK) printf("%s%s%s\n", bare ? "" : "{\"text\": ", quoted.bytes, bare ? "" : "}");
    } else if (status == GD_OK) {
      fwrite(raw.bytes ? raw.bytes : "", 1, raw.count, stdout);
    }
    if (ids.count) previous = ids.ids[ids.count - 1];
  }
  free(text);
  gd_ids_free(&ids);
  gd_bytes_free(&raw);
  gd_bytes_free(&quoted);
  return status == GD_OK ? flush_stdout() : status;
}

gd_status gd_data_decode(int argc, char **argv) {
  stream_options options = {0};
  bool done = false;
  GD_TRY(parse_stream(argc, argv, "gptdist-data decode", "token ids to text", false, &options, &done));
  if (done) return GD_OK;
  gd_tokenizer *tokenizer = NULL;
  gd_status status = open_tokenizer(options.tokenizer, &tokenizer);
  if (status == GD_OK) status = decode_input(tokenizer, &options);
  gd_tokenizer_close(tokenizer);
  if (options.input != stdin) fclose(options.input);
  return status;
}
