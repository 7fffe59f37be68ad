/* gptdist_generate.c - gptdist-generate: continues a text: `gptdist-generate --checkpoint DIR --prompt "Once upon a time"`.
 * Under mpirun the ranks share the model (tensor parallel) and rank 0 prints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/base/json.h"
#include "io/base/utf8.h"
#include "launch/console.h"
#include "launch/inference.h"
#include "launch/options.h"
#include "launch/signals.h"
#include "trainer/generate.h"

typedef struct generate {
  gd_inference_options options;
  gd_command_line line;
  const char *prompt, *prompt_file, *token_ids;
  gd_option_texts stops;
  int64_t max_new_tokens, top_k, seed;
  double temperature, top_p;
  bool ids, no_echo, ignore_end;
  bool first; /* rank 0 */
  gd_inference model;
  gd_ids tokens; /* the prompt, then what was generated */
  size_t prompt_count;
  bool *never;    /* [the model's vocabulary]: ids that the tokenizer has no text for */
  gd_bytes text;  /* of what was generated */
  size_t printed; /* bytes of it */
  const char *stopped_by;
} generate;

/* ---- the prompt ---- */

static gd_status check_options(const generate *g) {
  int given = (g->prompt != 0) + (g->prompt_file != 0) + (g->token_ids != 0);
  if (given > 1) return gd_fail_user(GD_USAGE, "give one of --prompt, --prompt-file and --token-ids, not %d of them", given);
  for (int i = 0; i < g->stops.count; i++)
    if (!g->stops.text[i][0]) return gd_fail_user(GD_USAGE, "--stop: found an empty text");
  return GD_OK;
}

static gd_status encode_prompt(generate *g) {
  gd_tokenizer *tokenizer = g->model.tokenizer;
  gd_bytes text = {0};
  if (g->token_ids) {
    GD_TRY(gd_inference_parse_ids(g->token_ids, &g->tokens));
  } else {
    if (!tokenizer)
      return gd_fail_user(GD_USAGE, "%s brings no tokenizer; name one with --tokenizer, or give --token-ids",
                          g->options.checkpoint);
    int32_t start = gd_tokenizer_bos(tokenizer);
    if (start >= 0) GD_TRY(gd_ids_append(&g->tokens, &start, 1));
    if (g->prompt_file) GD_TRY(gd_path_named(g->prompt_file, GD_PATH_FILE, "a text file"));
    if (g->prompt_file) GD_TRY(gd_file_read(g->prompt_file, (size_t)1 << 28, &text));
    const char *bytes = g->prompt_file ? text.bytes : g->prompt;
    size_t count = g->prompt_file ? text.count : g->prompt ? strlen(g->prompt) : 0;
    gd_status status = count ? gd_tokenizer_encode(tokenizer, bytes, count, true, &g->tokens) : GD_OK;
    gd_bytes_free(&text);
    GD_TRY(status);
    start = gd_tokenizer_eot(tokenizer);
    if (!g->tokens.count && start >= 0) GD_TRY(gd_ids_append(&g->tokens, &start, 1)); /* a document begins */
  }
  if (!g->tokens.count)
    return gd_fail_user(GD_USAGE, "the prompt is empty, and this tokenizer has no token that begins a text");
  g->prompt_count = g->tokens.count;
  return GD_OK;
}

/* A vocabulary is often padded beyond the tokenizer's ids: nobody can read those. */
static gd_status find_never(generate *g) {
  size_t vocabulary = (size_t)g->model.spec.model.vocabulary;
  if (!g->model.tokenizer) return GD_OK;
  g->never = calloc(vocabulary, sizeof *g->never);
  if (!g->never) return gd_fail(GD_NO_MEMORY, "no memory for %zu ids", vocabulary);
  for (size_t i = 0; i < vocabulary; i++) g->never[i] = !gd_tokenizer_has(g->model.tokenizer, (int32_t)i);
  return GD_OK;
}

/* ---- printing ---- */

static bool prints_ids(const generate *g) {
  return g->ids || !g->model.tokenizer;
}

/* Bytes as UTF-8: what is none becomes U+FFFD. */
static void print_bytes(const char *bytes, size_t count) {
  while (count) {
    bool valid;
    size_t run = gd_utf8_run(bytes, count, &valid);
    if (valid) fwrite(bytes, 1, run, stdout);
    for (size_t i = 0; !valid && i < run; i++) fputs("\xef\xbf\xbd", stdout);
    bytes += run;
    count -= run;
  }
  fflush(stdout);
}

/* Prints text up to `end`, but for the first bytes of a character (unless `last`: it comes to nothing); on rank 0, as plain
 * text only. */
static void print_text(generate *g, size_t end, bool last) {
  if (end > g->printed && !last) end -= gd_utf8_unfinished(g->text.bytes + g->printed, end - g->printed);
  if (end <= g->printed) return;
  if (g->first && !g->line.json && !prints_ids(g)) print_bytes(g->text.bytes + g->printed, end - g->printed);
  g->printed = end;
}

/* The prompt, without the mark that begins a text or document. */
static gd_status echo_prompt(generate *g) {
  const int32_t *ids = g->tokens.ids;
  if (!g->first || g->no_echo || g->line.json) return GD_OK;
  if (prints_ids(g)) {
    for (size_t i = 0; i < g->prompt_count; i++) printf("%s%d", i ? " " : "", ids[i]);
    fflush(stdout);
    return GD_OK;
  }
  gd_bytes text = {0};
  size_t mark = ids[0] == gd_tokenizer_bos(g->model.tokenizer) ||
                (g->prompt_count == 1 && ids[0] == gd_tokenizer_eot(g->model.tokenizer));
  gd_status status = gd_tokenizer_decode(g->model.tokenizer, mark ? ids[0] : -1, ids + mark, g->prompt_count - mark, &text);
  if (status == GD_OK && text.count) {
    /* What begins a character is printed with the rest of it. */
    size_t held = gd_utf8_unfinished(text.bytes, text.count);
    print_bytes(text.bytes, text.count - held);
    status = gd_bytes_append(&g->text, text.bytes + text.count - held, held);
  }
  gd_bytes_free(&text);
  return status;
}

/* Where the first stop text begins, or text.count; *held = bytes at the end that may yet become one. */
static size_t find_stop(const generate *g, size_t from, size_t *held) {
  size_t best = g->text.count;
  *held = 0;
  for (int i = 0; i < g->stops.count; i++) {
    const char *stop = g->stops.text[i];
    size_t length = strlen(stop);
    for (size_t at = from; at < g->text.count; at++) {
      size_t left = g->text.count - at;
      if (memcmp(g->text.bytes + at, stop, left < length ? left : length) != 0) continue;
      if (left >= length && at < best) best = at;
      if (left < length && left > *held) *held = left;
    }
  }
  return best;
}

static gd_status add_token(generate *g, int32_t token) {
  int32_t previous = g->tokens.ids[g->tokens.count - 1];
  size_t held;
  GD_TRY(gd_ids_append(&g->tokens, &token, 1));
  if (g->first && !g->line.json && prints_ids(g)) {
    printf("%s%d", g->tokens.count - 1 == (g->no_echo ? g->prompt_count : 0) ? "" : " ", token);
    fflush(stdout);
  }
  if (!g->model.tokenizer) return GD_OK;
  GD_TRY(gd_tokenizer_decode(g->model.tokenizer, previous, &token, 1, &g->text));
  size_t stop = find_stop(g, g->printed, &held);
  if (stop < g->text.count) {
    g->stopped_by = "stop";
    g->text.count = stop;
    held = 0;
  }
  print_text(g, g->text.count - held, false);
  return GD_OK;
}

static gd_status print_json(const generate *g, double seconds) {
  gd_bytes out = {0};
  gd_status status = GD_OK;
  GD_TRY_GOTO(status, end, gd_bytes_printf(&out, "{\"text\":"));
  GD_TRY_GOTO(status, end, gd_json_quote(&out, g->text.bytes ? g->text.bytes : "", g->text.count));
  GD_TRY_GOTO(status, end, gd_bytes_printf(&out, ",\"prompt_tokens\":%zu,\"token_ids\":[", g->prompt_count));
  for (size_t i = g->prompt_count; i < g->tokens.count; i++)
    GD_TRY_GOTO(status, end, gd_bytes_printf(&out, "%s%d", i == g->prompt_count ? "" : ",", g->tokens.ids[i]));
  size_t count = g->tokens.count - g->prompt_count;
  GD_TRY_GOTO(status, end,
              gd_bytes_printf(&out, "],\"stopped_by\":\"%s\",\"tokens_per_s\":%.1f}", g->stopped_by,
                              seconds > 0 ? (double)count / seconds : 0.0));
  puts(out.bytes);
end:
  gd_bytes_free(&out);
  return status;
}

/* ---- the work ---- */

static bool ends_text(const generate *g, int32_t token) {
  const gd_tokenizer *tokenizer = g->model.tokenizer;
  if (!tokenizer || g->ignore_end) return false;
  return token == gd_tokenizer_eot(tokenizer) || token == gd_tokenizer_bos(tokenizer);
}

/* A signal seen by any rank stops all after the same token. */
static gd_status stop_asked(const generate *g, bool *stop) {
  int32_t ranks = gd_session_ranks(g->model.session), mine = gd_signals_pending() != 0, all[1024];
  *stop = mine != 0;
  if (ranks == 1 || ranks > 1024) return GD_OK;
  GD_TRY(gd_session_all_gather(g->model.session, &mine, all, sizeof mine));
  for (int32_t r = 0; r < ranks; r++) *stop = *stop || all[r];
  return GD_OK;
}

static gd_status run(generate *g, gd_generator *generator) {
  double start = gd_machine_seconds(), first_token = 0;
  GD_TRY(gd_generator_prompt(generator, g->tokens.ids, (int64_t)g->tokens.count));
  GD_TRY(echo_prompt(g));
  g->stopped_by = 0;
  for (int64_t i = 0; i < g->max_new_tokens && !g->stopped_by; i++) {
    int32_t token;
    bool stop;
    GD_TRY(stop_asked(g, &stop));
    if (stop) {
      g->stopped_by = "signal";
      break;
    }
    GD_TRY(gd_generator_next(generator, &token));
    if (i == 0) first_token = gd_machine_seconds();
    if (token < 0) g->stopped_by = "context";
    if (token >= 0 && ends_text(g, token)) g->stopped_by = "end";
    if (!g->stopped_by) GD_TRY(add_token(g, token));
  }
  if (!g->stopped_by) g->stopped_by = "max_new_tokens";
  print_text(g, g->text.count, true);
  if (!g->first) return GD_OK;
  double seconds = gd_machine_seconds() - first_token;
  size_t count = g->tokens.count - g->prompt_count;
  if (g->line.json) return print_json(g, seconds);
  putchar('\n');
  fflush(stdout); /* before the line on stderr, where both are a terminal */
  gd_log(GD_LOG_INFO, "%zu tokens after a prompt of %zu (%.2f s to the first, then %.1f tokens/s), ended by %s", count,
         g->prompt_count, first_token > 0 ? first_token - start : 0.0,
         count > 1 && seconds > 0 ? (double)(count - 1) / seconds : 0.0, g->stopped_by);
  return GD_OK;
}

static gd_status work(void *context, gd_session *session) {
  generate *g = context;
  gd_generator generator = {0};
  gd_sampling sampling = {g->temperature, (int32_t)g->top_k, g->top_p, (uint64_t)g->seed, NULL};
  g->first = gd_session_rank(session) == 0;
  GD_TRY(check_options(g));
  GD_TRY(gd_inference_open(session, &g->options, &g->model));
  gd_status status = gd_session_agree(session, encode_prompt(g));
  if (status == GD_OK && g->model.mesh.size[GD_AXIS_DATA] > 1)
    status = gd_fail_user(GD_USAGE, "--tensor: one text is generated by tensor ranks; expected the %d ranks of this job",
                          gd_session_ranks(session));
  if (status == GD_OK) status = gd_session_agree(session, find_never(g));
  sampling.never = g->never;
  if (status == GD_OK) status = gd_generator_open(&g->model.model, &sampling, &generator);
  if (status == GD_OK) status = run(g, &generator);
  gd_generator_close(&generator);
  gd_inference_close(&g->model);
  gd_ids_free(&g->tokens);
  gd_bytes_free(&g->text);
  free(g->never);
  return status;
}

int main(int argc, char **argv) {
  static generate g; /* large: a spec */
  g.max_new_tokens = 100;
  g.temperature = g.top_p = 1;
  g.seed = 1;
  const gd_option options[] = {
      {"--checkpoint", GD_OPTION_TEXT, &g.options.checkpoint, "DIR",
       "a checkpoint, RUN@best, RUN@STEP, a run or a Hugging Face model folder", 0, 0},
      {"--prompt", GD_OPTION_TEXT, &g.prompt, "TEXT", "the text to go on from; none: a new document", 0, 0},
      {"--prompt-file", GD_OPTION_TEXT, &g.prompt_file, "FILE", "the same from a file", 0, 0},
      {"--token-ids", GD_OPTION_TEXT, &g.token_ids, "IDS", "the same as ids: \"1 2 3\"", 0, 0},
      {"--max-new-tokens", GD_OPTION_INTEGER, &g.max_new_tokens, "N", "tokens to add (100)", 0, 1e9},
      {"--temperature", GD_OPTION_NUMBER, &g.temperature, "T", "0 takes the most likely token, 1 the model's own odds (1)", 0,
       1e6},
      {"--top-k", GD_OPTION_INTEGER, &g.top_k, "K", "draw from the K most likely tokens; 0 = all (0)", 0, 1e9},
      {"--top-p", GD_OPTION_NUMBER, &g.top_p, "P", "draw from the most likely tokens that reach probability P (1)", 1e-9, 1},
      {"--stop", GD_OPTION_TEXTS, &g.stops, "TEXT", "end before this text; may be given several times", 0, 0},
      {"--ignore-end", GD_OPTION_FLAG, &g.ignore_end, 0, "go on behind the end of a document", 0, 0},
      {"--seed", GD_OPTION_INTEGER, &g.seed, "S", "the same seed draws the same tokens (1)", 0, 9e15},
      {"--ids", GD_OPTION_FLAG, &g.ids, 0, "print token ids, those of the prompt first", 0, 0},
      {"--no-echo", GD_OPTION_FLAG, &g.no_echo, 0, "print what is new only, without the prompt", 0, 0},
      {"--tokenizer", GD_OPTION_TEXT, &g.options.tokenizer, "SPEC",
       "gpt2:DIR, tiktoken:FILE, llama2c:FILE, ... (the checkpoint's own)", 0, 0},
      {"--device", GD_OPTION_TEXT, &g.options.device, "auto|cpu|cuda", "where to compute (auto)", 0, 0},
      {"--dtype", GD_OPTION_TEXT, &g.options.dtype, "float32|bfloat16", "precision (the checkpoint's)", 0, 0},
      {"--threads", GD_OPTION_INTEGER, &g.options.threads, "N", "threads a rank; 0 = all cores (0)", 0, 4096},
      {"--context", GD_OPTION_INTEGER, &g.options.context, "N", "tokens of the cache; 0 = the model's context (0)", 0, 1e8},
      {0},
  };
  const gd_program program = {
      .name = "gptdist-generate",
      .purpose = "continues a text with a trained model",
      .usage =
          "--checkpoint DIR [--prompt T | --prompt-file F | --token-ids \"1 2 3\"] [--max-new-tokens N] [--temperature T]\n"
          "       [--top-k K] [--top-p P] [--stop S]... [--seed S]",
      .more = "Under mpirun the ranks share the model (tensor parallel) and rank 0 prints.",
      .options = options};
  gd_launch_environment environment;
  bool done = false;
  gd_session_environment(&environment);
  gd_console_open("gptdist-generate", environment.rank);
  gd_status status = gd_options_parse(&program, argc, argv, &g.line, &done);
  if (status != GD_OK || done) return gd_console_leave(status, false);
  status = gd_signals_install();
  if (status != GD_OK) return gd_console_leave(status, true);
  return gd_inference_main(work, &g);
}
