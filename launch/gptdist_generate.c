/* gptdist_generate.c - gptdist-generate: continues a text: `gptdist-generate --checkpoint DIR --prompt "Once upon a time"`, or
 * the lines of a file, or talks. Under mpirun the ranks share the model (tensor parallel) and rank 0 reads and prints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/base/utf8.h"
#include "launch/console.h"
#include "launch/generate.h"
#include "launch/signals.h"

static const char *const early_words[] = {[GD_EARLY_NO] = "no", [GD_EARLY_YES] = "yes", [GD_EARLY_NEVER] = "never"};

/* ---- options ---- */

static gd_status check_options(gd_generate *g) {
  int given = (g->prompt != 0) + (g->prompt_file != 0) + (g->token_ids != 0) + (g->jsonl != 0) + g->chat;
  if (given > 1)
    return gd_fail_user(GD_USAGE, "give one of --prompt, --prompt-file, --token-ids, --jsonl and --chat, not %d of them",
                        given);
  for (int i = 0; i < g->stops.count; i++)
    if (!g->stops.text[i][0]) return gd_fail_user(GD_USAGE, "--stop: found an empty text");
  if (g->rank_by && strcmp(g->rank_by, "loglikelihood") != 0)
    return gd_fail_user(GD_USAGE, "--rank-by: found \"%s\", expected loglikelihood", g->rank_by);
  for (g->search.options.early = 0; g->early_stopping && strcmp(g->early_stopping, early_words[g->search.options.early]) != 0;)
    if (++g->search.options.early > GD_EARLY_NEVER)
      return gd_fail_user(GD_USAGE, "--early-stopping: found \"%s\", expected no, yes or never", g->early_stopping);
  if (g->beams > 1 && (g->samples > 1 || g->rank_by || g->stops.count || g->chat))
    return gd_fail_user(GD_USAGE, "--beams: goes with neither --samples, --rank-by, --stop nor --chat");
  if (g->chat && g->samples > 1) return gd_fail_user(GD_USAGE, "--samples: a talk has one answer");
  if (g->system && !g->chat)
    return gd_fail_user(GD_USAGE, "--system: goes with --chat; in --jsonl it is a turn of \"messages\"");
  if (!g->jsonl || g->beams > 1) g->batch = 1; /* a search fills its slots alone */
  if (g->batch * gd_generate_width(g) > 4096)
    return gd_fail_user(GD_USAGE, "--batch %lld times --samples %lld: expected at most 4096 texts at once", (long long)g->batch,
                        (long long)g->samples);
  g->options.slots = g->batch * gd_generate_width(g);
  return GD_OK;
}

/* ---- one prompt ---- */

static gd_status encode_prompt(gd_generate *g, gd_ids *out) {
  if (g->token_ids) {
    GD_TRY(gd_inference_parse_ids("--token-ids", g->token_ids, out));
    if (!out->count) return gd_fail_user(GD_USAGE, "the prompt is empty");
  } else if (g->prompt_file) {
    gd_bytes text = {0};
    GD_TRY(gd_path_named(g->prompt_file, GD_PATH_FILE, "a text file"));
    GD_TRY(gd_file_read(g->prompt_file, (size_t)1 << 28, &text));
    gd_status status = gd_prompt_of_text(g, text.bytes, text.count, out);
    gd_bytes_free(&text);
    GD_TRY(status);
  } else
    GD_TRY(gd_prompt_of_text(g, g->prompt, g->prompt ? strlen(g->prompt) : 0, out));
  return gd_generator_check(&g->model.model, out->ids, (int64_t)out->count);
}

static bool prints_ids(const gd_generate *g) {
  return g->ids || !g->model.tokenizer;
}

/* The prompt, without the mark that begins a text or document. What begins a character goes to `held`, to be printed with the
 * rest of it. */
static gd_status echo_prompt(gd_generate *g, const gd_ids *prompt, gd_bytes *held) {
  const int32_t *ids = prompt->ids;
  if (!g->first || g->no_echo || g->line.json) return GD_OK;
  if (prints_ids(g)) {
    for (size_t i = 0; i < prompt->count; i++) printf("%s%d", i ? " " : "", ids[i]);
    fflush(stdout);
    return GD_OK;
  }
  gd_bytes text = {0};
  size_t mark =
      ids[0] == gd_tokenizer_bos(g->model.tokenizer) || (prompt->count == 1 && ids[0] == gd_tokenizer_eot(g->model.tokenizer));
  gd_status status = gd_tokenizer_decode(g->model.tokenizer, mark ? ids[0] : -1, ids + mark, prompt->count - mark, &text);
  if (status == GD_OK && text.count) {
    size_t unfinished = gd_utf8_unfinished(text.bytes, text.count);
    gd_print_text(text.bytes, text.count - unfinished);
    status = gd_bytes_append(held, text.bytes + text.count - unfinished, unfinished);
  }
  gd_bytes_free(&text);
  return status;
}

/* What is printed of a text while it grows. */
typedef struct printed {
  gd_bytes held; /* bytes that wait for the rest of a character */
  size_t bytes, ids;
} printed;

static gd_status print_more(const gd_generate *g, const gd_written *w, printed *p) {
  if (!g->first || g->line.json) return GD_OK;
  if (prints_ids(g)) {
    for (; p->ids < w->tokens.count; p->ids++) printf("%s%d", p->ids == 0 && g->no_echo ? "" : " ", w->tokens.ids[p->ids]);
    fflush(stdout);
    return GD_OK;
  }
  if (w->settled > p->bytes) GD_TRY(gd_bytes_append(&p->held, w->text.bytes + p->bytes, w->settled - p->bytes));
  p->bytes = w->settled;
  size_t left = p->held.count && !w->stopped_by ? gd_utf8_unfinished(p->held.bytes, p->held.count) : 0;
  if (p->held.count) gd_print_text(p->held.bytes, p->held.count - left);
  if (p->held.count) memmove(p->held.bytes, p->held.bytes + p->held.count - left, left);
  p->held.count = left;
  return GD_OK;
}

static gd_status print_json(const gd_generate *g, const gd_request *request, const gd_written *texts, double rate) {
  gd_bytes out = {0};
  int32_t order[GD_MOST_SAMPLES], count = gd_generate_texts(g);
  gd_generate_rank(g, texts, order);
  gd_status status =
      gd_bytes_printf(&out, "{\"prompt_tokens\":%zu,%s", request->prompt.count, count > 1 ? "\"samples\":[" : "");
  for (int32_t i = 0; i < count && status == GD_OK; i++) {
    if (count > 1) status = gd_bytes_printf(&out, i ? ",{" : "{");
    if (status == GD_OK) status = gd_written_json(g, &texts[order[i]], &out);
    if (status == GD_OK && count > 1) status = gd_bytes_printf(&out, "}");
  }
  if (status == GD_OK) status = gd_bytes_printf(&out, "%s,\"tokens_per_s\":%.1f}", count > 1 ? "]" : "", rate);
  if (status == GD_OK) puts(out.bytes);
  gd_bytes_free(&out);
  return status;
}

/* Several samples, each behind a line of its own. */
static gd_status print_samples(const gd_generate *g, const gd_written *texts) {
  int32_t order[GD_MOST_SAMPLES], count = gd_generate_texts(g);
  gd_generate_rank(g, texts, order);
  for (int32_t i = 0; i < count; i++) {
    const gd_written *w = &texts[order[i]];
    printf("%s--- sample %d of %d, %zu tokens", i || !g->no_echo ? "\n" : "", i + 1, count, w->tokens.count);
    printf(g->rank_by ? ", log-likelihood %.4f\n" : "\n", w->score);
    printed p = {.ids = 0};
    gd_status status = print_more(g, w, &p);
    gd_bytes_free(&p.held);
    GD_TRY(status);
  }
  return GD_OK;
}

static bool all_stopped(const gd_generate *g, const gd_written *texts) {
  for (int32_t i = 0; i < gd_generate_texts(g); i++)
    if (!texts[i].stopped_by) return false;
  return true;
}

static gd_status tell(const gd_generate *g, const gd_request *request, const gd_written *texts, double wait, double seconds) {
  size_t tokens = 0;
  int32_t count = gd_generate_texts(g);
  for (int32_t i = 0; i < count; i++) tokens += texts[i].tokens.count;
  double rate = tokens > (size_t)count && seconds > 0 ? (double)(tokens - (size_t)count) / seconds : 0;
  if (g->line.json) return print_json(g, request, texts, rate);
  if (count > 1) GD_TRY(print_samples(g, texts));
  putchar('\n');
  fflush(stdout); /* before the line on stderr, where both are a terminal */
  gd_log(GD_LOG_INFO, "%zu tokens after a prompt of %zu (%.2f s to the first, then %.1f tokens/s), ended by %s", tokens,
         request->prompt.count, wait, rate, texts[0].stopped_by);
  return GD_OK;
}

static gd_status run_texts(gd_generate *g, const gd_request *request, gd_written *texts) {
  printed p = {.ids = 0};
  bool streams = gd_generate_texts(g) == 1;
  double start = gd_machine_seconds(), first_token = 0;
  gd_start begun = {*request, 0, texts};
  gd_status status = gd_generate_begin(g, &begun, 1);
  first_token = gd_machine_seconds();
  if (status == GD_OK) status = echo_prompt(g, &request->prompt, &p.held);
  while (status == GD_OK) {
    bool stop;
    if (streams) status = print_more(g, &texts[0], &p);
    if (status != GD_OK || all_stopped(g, texts)) break;
    status = gd_inference_stop_asked(g->model.session, &stop);
    if (status == GD_OK && !stop) status = gd_generate_step(g);
    for (int32_t i = 0; i < gd_generate_texts(g) && stop && status == GD_OK; i++) status = gd_generate_interrupt(g, &texts[i]);
  }
  gd_bytes_free(&p.held);
  if (status != GD_OK || !g->first) return status;
  return tell(g, request, texts, first_token - start, gd_machine_seconds() - first_token);
}

static gd_status run_prompt(gd_generate *g) {
  gd_request request = {.seed = (uint64_t)g->seed};
  int32_t count = gd_generate_texts(g);
  gd_written *texts = calloc((size_t)count, sizeof *texts);
  gd_status status = texts ? encode_prompt(g, &request.prompt) : gd_fail(GD_NO_MEMORY, "no memory for %d texts", count);
  status = gd_session_agree(g->model.session, status);
  request.max_new_tokens = gd_generate_most(g, -1, request.prompt.count);
  if (status == GD_OK) status = run_texts(g, &request, texts);
  for (int32_t i = 0; texts && i < count; i++) gd_written_free(&texts[i]);
  free(texts);
  gd_ids_free(&request.prompt);
  return status;
}

/* ---- --dry-run ---- */

static gd_status print_plan(const gd_generate *g, gd_session *session) {
  gd_spec spec;
  gd_memory memory[GD_MEMORY_IDS];
  GD_TRY(gd_inference_plan(session, &g->options, &spec, memory));
  if (!g->first) return GD_OK;
  int64_t context = g->options.context ? g->options.context : spec.model.context;
  const char *dtype = gd_dtype_name(spec.precision.dtype), *between = "";
  if (!g->line.json)
    printf("%lld slots of %lld tokens, %s; memory of a rank (MiB)\n", (long long)g->options.slots, (long long)context, dtype);
  if (g->line.json)
    printf("{\"event\":\"plan\",\"slots\":%lld,\"context\":%lld,\"dtype\":\"%s\",\"memory_bytes\":{",
           (long long)g->options.slots, (long long)context, dtype);
  for (int id = 0; id < GD_MEMORY_IDS; id++) {
    if (memory[id].bytes == 0) continue;
    if (g->line.json)
      printf("%s\"%s\":%lld", between, memory[id].name, (long long)memory[id].bytes);
    else
      printf("  %-16s %12.1f\n", memory[id].name, (double)memory[id].bytes / 1048576.0);
    between = ",";
  }
  if (g->line.json)
    puts("}}");
  else
    printf("  %-16s %12.1f\n", "total", (double)gd_memory_device_bytes(memory) / 1048576.0);
  return GD_OK;
}

/* ---- the work ---- */

static gd_status work(void *context, gd_session *session) {
  gd_generate *g = context;
  g->first = gd_session_rank(session) == 0;
  GD_TRY(check_options(g));
  if (g->dry_run) return print_plan(g, session);
  GD_TRY(gd_inference_open(session, &g->options, &g->model));
  gd_status status = gd_session_agree(session, gd_generate_open(g));
  if (status == GD_OK) status = g->jsonl ? gd_generate_lines(g) : g->chat ? gd_generate_chat(g) : run_prompt(g);
  gd_generate_close(g);
  gd_inference_close(&g->model);
  return status;
}

int main(int argc, char **argv) {
  static gd_generate g; /* large: a spec */
  gd_generate_defaults(&g);
  const gd_option options[] = {
      {"--checkpoint", GD_OPTION_TEXT, &g.options.checkpoint, "DIR",
       "a checkpoint, RUN@best, RUN@STEP, a run or a Hugging Face model folder", 0, 0},
      {"--prompt", GD_OPTION_TEXT, &g.prompt, "TEXT", "the text to go on from; none: a new document", 0, 0},
      {"--prompt-file", GD_OPTION_TEXT, &g.prompt_file, "FILE", "the same from a file", 0, 0},
      {"--token-ids", GD_OPTION_TEXT, &g.token_ids, "IDS", "the same as ids: \"1 2 3\"", 0, 0},
      {"--jsonl", GD_OPTION_TEXT, &g.jsonl, "F",
       "a record a line in and out, in one order (-: standard input): \"prompt\", \"messages\" or \"token_ids\"", 0, 0},
      {"--batch", GD_OPTION_INTEGER, &g.batch, "B", "records of --jsonl at once (8)", 1, 4096},
      {"--chat", GD_OPTION_FLAG, &g.chat, 0, "a line is a turn, the model answers; Ctrl-C ends an answer, Ctrl-D the talk", 0,
       0},
      {"--system", GD_OPTION_TEXT, &g.system, "TEXT", "the system's turn of a talk", 0, 0},
      {"--template", GD_OPTION_TEXT, &g.template_name, "NAME",
       "how turns are written: plain, alpaca, chatml, llama3 or a file (what the model brings, else alpaca)", 0, 0},
      {"--max-new-tokens", GD_OPTION_INTEGER, &g.max_new_tokens, "N", "tokens to add (100, with --max-length no limit)", 0,
       1e9},
      {"--max-length", GD_OPTION_INTEGER, &g.max_length, "N", "tokens of prompt and text together (no limit)", 0, 1e9},
      {"--min-new-tokens", GD_OPTION_INTEGER, &g.min_new_tokens, "N", "none of the first N tokens ends the text (0)", 0, 1e9},
      {"--temperature", GD_OPTION_NUMBER, &g.temperature, "T", "0 takes the most likely token, 1 the model's own odds (1)", 0,
       1e6},
      {"--top-k", GD_OPTION_INTEGER, &g.top_k, "K", "draw from the K most likely tokens; 0 = all (0)", 0, 1e9},
      {"--top-p", GD_OPTION_NUMBER, &g.top_p, "P", "draw from the most likely tokens that reach probability P (1)", 1e-9, 1},
      {"--repetition-penalty", GD_OPTION_NUMBER, &g.repetition_penalty, "P",
       "logits of tokens that prompt or text have are divided by P, negative ones multiplied (1)", 1e-3, 1e3},
      {"--samples", GD_OPTION_INTEGER, &g.samples, "N", "texts of one prompt, which differ (1)", 1, GD_MOST_SAMPLES},
      {"--rank-by", GD_OPTION_TEXT, &g.rank_by, "loglikelihood",
       "samples by the sum of the log-probabilities of their tokens, the largest first", 0, 0},
      {"--beams", GD_OPTION_INTEGER, &g.beams, "B", "beam search with B beams, which draws nothing; 1: none (1)", 1,
       GD_MOST_BEAMS},
      {"--length-penalty", GD_OPTION_NUMBER, &g.length_penalty, "P",
       "a beam's log-probability is divided by its length to the power of P (1)", -100, 100},
      {"--early-stopping", GD_OPTION_TEXT, &g.early_stopping, "no|yes|never",
       "yes: a search is over when B beams are finished; else when no beam is, or could get, better (no)", 0, 0},
      {"--stop", GD_OPTION_TEXTS, &g.stops, "TEXT", "end before this text; may be given several times", 0, 0},
      {"--end-ids", GD_OPTION_TEXT, &g.end_ids, "IDS", "ids that end a text, in place of the tokenizer's: \"2 13\"", 0, 0},
      {"--ignore-end", GD_OPTION_FLAG, &g.ignore_end, 0, "go on behind the end of a document", 0, 0},
      {"--seed", GD_OPTION_INTEGER, &g.seed, "S", "the same seed draws the same tokens (1)", 0, 9e15},
      {"--ids", GD_OPTION_FLAG, &g.ids, 0, "print token ids, those of the prompt first", 0, 0},
      {"--no-echo", GD_OPTION_FLAG, &g.no_echo, 0, "print what is new only, without the prompt", 0, 0},
      {"--dry-run", GD_OPTION_FLAG, &g.dry_run, 0, "print the memory that a rank would take, and stop", 0, 0},
      {"--tokenizer", GD_OPTION_TEXT, &g.options.tokenizer, "SPEC",
       "gpt2:DIR, tiktoken:FILE, llama2c:FILE, ... (the checkpoint's own)", 0, 0},
      {"--device", GD_OPTION_TEXT, &g.options.device, "auto|cpu|cuda", "where to compute (auto)", 0, 0},
      {"--dtype", GD_OPTION_TEXT, &g.options.dtype, "float32|bfloat16", "precision (the checkpoint's)", 0, 0},
      {"--threads", GD_OPTION_INTEGER, &g.options.threads, "N", "threads a rank; 0 = all cores (0)", 0, 4096},
      {"--context", GD_OPTION_INTEGER, &g.options.context, "N", "tokens of a text in the cache; 0 = the model's context (0)", 0,
       1e8},
      {0},
  };
  const gd_program program = {
      .name = "gptdist-generate",
      .purpose = "continues a text with a trained model",
      .usage =
          "--checkpoint DIR [--prompt T | --prompt-file F | --token-ids \"1 2 3\" | --jsonl F | --chat]\n"
          "       [--max-new-tokens N] [--temperature T] [--top-k K] [--top-p P] [--stop S]... [--seed S] [--samples N] "
          "[--beams B]",
      .more =
          "A record of --jsonl may have \"id\" (any JSON, comes back), \"seed\" and \"max_new_tokens\" of its own. Each text "
          "is what it\n"
          "would be alone. A line that is no use has an \"error\" in its place and is told with file and line; the others are "
          "done,\n"
          "and the exit code is 65. --beams: ids as transformers' beam search, the score being log-probability / length^P.\n"
          "Under mpirun the ranks share the model (tensor parallel) and rank 0 reads and prints.",
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
