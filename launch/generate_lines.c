/* generate_lines.c - --jsonl: a record a line in, a record a line out, in the same order, several at once. A record that is no
 * use has an "error" in its place, and the others go on. Rank 0 reads; all ranks see every line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "io/base/json.h"
#include "launch/generate.h"
#include "launch/generate_input.h"
#include "shard/base/log.h"

typedef struct record {
  struct record *next;
  int64_t line;
  gd_bytes id; /* as JSON; empty: it has none */
  gd_request request;
  gd_written *texts; /* NULL: it is bad */
  int32_t first_slot;
  gd_bytes out; /* what is printed; empty: it is not done */
} record;

typedef struct lines {
  gd_generate *g;
  gd_input input;
  const char *name;                 /* of the file */
  record *first, *last;             /* in order of input */
  record **in_groups;               /* [batch]: whose slots they are, or NULL */
  gd_start *starts;                 /* [batch], scratch */
  int64_t read, bad, texts, tokens; /* lines and bad ones; texts and tokens made */
  bool end;
  char first_bad[600];
} lines;

static void free_record(record *r, int32_t texts) {
  for (int32_t i = 0; r->texts && i < texts; i++) gd_written_free(&r->texts[i]);
  free(r->texts);
  gd_ids_free(&r->request.prompt);
  gd_bytes_free(&r->id);
  gd_bytes_free(&r->out);
  free(r);
}

/* ---- a line to a request ---- */

static gd_status read_role(const gd_json *message, gd_turn *turn) {
  static const char *const roles[GD_TURN_ROLES] = {"system", "user", "assistant"};
  const char *role = gd_json_string(gd_json_get(message, "role"));
  for (int i = 0; role && i < GD_TURN_ROLES; i++)
    if (!strcmp(role, roles[i])) {
      turn->role = (gd_turn_role)i;
      return GD_OK;
    }
  return gd_fail_user(GD_BAD_DATA, "\"role\": found %.40s, expected \"system\", \"user\" or \"assistant\"",
                      role ? role : "none");
}

/* Turns, the last of which is not the assistant's. */
static gd_status read_messages(gd_generate *g, const gd_json *messages, gd_ids *out) {
  int32_t count = 0, made = 0;
  for (const gd_json *m = gd_json_first(messages); m; m = gd_json_next(m)) count++;
  if (!gd_json_is_array(messages) || count == 0)
    return gd_fail_user(GD_BAD_DATA, "\"messages\": expected an array of turns with \"role\" and \"content\"");
  gd_turn *turns = calloc((size_t)count, sizeof *turns);
  gd_bytes *contents = calloc((size_t)count, sizeof *contents);
  gd_status status = turns && contents ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %d turns", count);
  for (const gd_json *m = gd_json_first(messages); m && status == GD_OK; m = gd_json_next(m), made++) {
    const gd_json *content = gd_json_get(m, "content");
    status = read_role(m, &turns[made]);
    if (status == GD_OK && !gd_json_string(content)) status = gd_fail_user(GD_BAD_DATA, "\"content\": expected a string");
    if (status == GD_OK) status = gd_json_text(content, &contents[made]);
    turns[made].text = contents[made].bytes ? contents[made].bytes : "";
    turns[made].count = contents[made].count;
  }
  if (status == GD_OK && turns[count - 1].role == GD_TURN_ASSISTANT)
    status = gd_fail_user(GD_BAD_DATA, "\"messages\": the last turn is the assistant's, expected one to answer");
  if (status == GD_OK) status = gd_prompt_of_turns(g, turns, count, out);
  for (int32_t i = 0; contents && i < count; i++) gd_bytes_free(&contents[i]);
  free(contents);
  free(turns);
  return status;
}

static gd_status read_token_ids(const gd_json *ids, gd_ids *out) {
  for (const gd_json *e = gd_json_first(ids); e; e = gd_json_next(e)) {
    int64_t id;
    if (!gd_json_integer(e, &id) || id < 0 || id > INT32_MAX)
      return gd_fail_user(GD_BAD_DATA, "\"token_ids\": expected whole numbers from 0");
    int32_t one = (int32_t)id;
    GD_TRY(gd_ids_append(out, &one, 1));
  }
  if (out->count) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "\"token_ids\": expected an array of ids");
}

static gd_status read_number(const gd_json *line, const char *key, int64_t most, int64_t *out) {
  const gd_json *node = gd_json_get(line, key);
  if (!node || (gd_json_integer(node, out) && *out >= 0 && *out <= most)) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "\"%s\": expected a whole number from 0 to %lld", key, (long long)most);
}

static gd_status read_prompt(gd_generate *g, const gd_json *line, gd_ids *out) {
  const gd_json *prompt = gd_json_get(line, "prompt"), *messages = gd_json_get(line, "messages");
  const gd_json *ids = gd_json_get(line, "token_ids");
  if ((prompt != 0) + (messages != 0) + (ids != 0) != 1)
    return gd_fail_user(GD_BAD_DATA, "expected one of \"prompt\", \"messages\" and \"token_ids\", found %s",
                        prompt || messages || ids ? "several" : "none");
  if (ids) return read_token_ids(ids, out);
  if (messages) return read_messages(g, messages, out);
  if (!gd_json_string(prompt)) return gd_fail_user(GD_BAD_DATA, "\"prompt\": expected a string");
  gd_bytes text = {0};
  gd_status status = gd_json_text(prompt, &text);
  if (status == GD_OK) status = gd_prompt_of_text(g, text.bytes ? text.bytes : "", text.count, out);
  gd_bytes_free(&text);
  return status;
}

static gd_status read_record(gd_generate *g, const gd_json *line, record *r) {
  int64_t seed = g->seed, most = -1;
  if (!gd_json_is_object(line)) return gd_fail_user(GD_BAD_DATA, "expected an object");
  if (gd_json_get(line, "id")) GD_TRY(gd_json_print(gd_json_get(line, "id"), &r->id));
  GD_TRY(read_number(line, "seed", (int64_t)9e15, &seed));
  GD_TRY(read_number(line, "max_new_tokens", (int64_t)1e9, &most));
  GD_TRY(read_prompt(g, line, &r->request.prompt));
  GD_TRY(gd_generator_check(&g->model.model, r->request.prompt.ids, (int64_t)r->request.prompt.count));
  r->request.seed = (uint64_t)seed;
  r->request.max_new_tokens = gd_generate_most(g, most, r->request.prompt.count);
  return GD_OK;
}

/* A mistake of the record is told and noted; other faults end the program. */
static gd_status note_bad(lines *l, record *r, gd_status status) {
  char text[480];
  if (status != GD_USAGE && status != GD_BAD_DATA) return status;
  snprintf(text, sizeof text, "%s", gd_error_text());
  gd_error_clear();
  char place[40];
  snprintf(place, sizeof place, ":%lld: ", (long long)r->line);
  const char *without = strstr(text, place); /* what JSON complains about brings its place */
  const char *what = without ? without + strlen(place) : text;
  l->bad++;
  if (l->bad == 1) snprintf(l->first_bad, sizeof l->first_bad, "%.100s:%lld: %s", l->name, (long long)r->line, what);
  if (l->g->first) gd_log(GD_LOG_WARNING, "%s:%lld: %s", l->name, (long long)r->line, what);
  GD_TRY(gd_bytes_printf(&r->out, "{"));
  if (r->id.count) GD_TRY(gd_bytes_printf(&r->out, "\"id\":%s,", r->id.bytes));
  GD_TRY(gd_bytes_printf(&r->out, "\"line\":%lld,\"error\":", (long long)r->line));
  GD_TRY(gd_json_quote(&r->out, what, strlen(what)));
  return gd_bytes_printf(&r->out, "}");
}

/* ---- records ---- */

static gd_status add_record(lines *l, const gd_bytes *text, record **out) {
  record *r = calloc(1, sizeof *r);
  gd_json *json = 0;
  *out = r;
  if (!r) return gd_fail(GD_NO_MEMORY, "no memory for a record");
  r->line = l->read;
  if (l->last)
    l->last->next = r;
  else
    l->first = r;
  l->last = r;
  gd_status status = gd_json_parse(text->bytes, text->count, l->name, r->line, &json);
  if (status == GD_OK) status = read_record(l->g, json, r);
  if (json) gd_json_free(json);
  if (status != GD_OK) return note_bad(l, r, status);
  r->texts = calloc((size_t)gd_generate_texts(l->g), sizeof *r->texts);
  return r->texts ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for a record");
}

static bool has_stopped(const gd_generate *g, const record *r) {
  for (int32_t i = 0; i < gd_generate_texts(g); i++)
    if (!r->texts[i].stopped_by) return false;
  return true;
}

static gd_status tell(const gd_generate *g, record *r) {
  int32_t order[GD_MOST_SAMPLES];
  gd_generate_rank(g, r->texts, order);
  GD_TRY(gd_bytes_printf(&r->out, "{"));
  if (r->id.count) GD_TRY(gd_bytes_printf(&r->out, "\"id\":%s,", r->id.bytes));
  GD_TRY(gd_bytes_printf(&r->out, "\"prompt_tokens\":%zu,", r->request.prompt.count));
  if (gd_generate_texts(g) == 1) {
    GD_TRY(gd_written_json(g, &r->texts[0], &r->out));
    return gd_bytes_printf(&r->out, "}");
  }
  GD_TRY(gd_bytes_printf(&r->out, "\"samples\":["));
  for (int32_t i = 0; i < gd_generate_texts(g); i++) {
    GD_TRY(gd_bytes_printf(&r->out, i ? ",{" : "{"));
    GD_TRY(gd_written_json(g, &r->texts[order[i]], &r->out));
    GD_TRY(gd_bytes_printf(&r->out, "}"));
  }
  return gd_bytes_printf(&r->out, "]}");
}

/* Records that have stopped leave their slots. */
static gd_status collect(lines *l) {
  gd_generate *g = l->g;
  for (int64_t group = 0; group < g->batch; group++) {
    record *r = l->in_groups[group];
    if (!r || !has_stopped(g, r)) continue;
    for (int32_t i = 0; i < gd_generate_width(g); i++) g->in_slots[r->first_slot + i] = 0;
    l->in_groups[group] = 0;
    for (int32_t i = 0; i < gd_generate_texts(g); i++) l->tokens += (int64_t)r->texts[i].tokens.count;
    l->texts += gd_generate_texts(g);
    GD_TRY(tell(g, r));
  }
  return GD_OK;
}

/* Prints what is done, up to the first record that is not. */
static gd_status print_done(lines *l) {
  bool any = false;
  while (l->first && l->first->out.count) {
    record *r = l->first;
    if (l->g->first) any = puts(r->out.bytes) >= 0;
    l->first = r->next;
    if (!l->first) l->last = 0;
    free_record(r, gd_generate_texts(l->g));
  }
  if (any && fflush(stdout)) return gd_fail_user(GD_IO, "standard output: %s", strerror(errno));
  return GD_OK;
}

/* The next record that is of use, for a group of slots; *dry: no line is there. Waits for one only where nothing else is to be
 * done. */
static gd_status take_record(lines *l, int64_t group, bool *dry) {
  gd_generate *g = l->g;
  while (!l->in_groups[group] && !l->end && !*dry) {
    gd_bytes line = {0};
    bool busy = false;
    for (int64_t i = 0; i < g->batch; i++) busy = busy || l->in_groups[i];
    gd_input_kind kind;
    GD_TRY(gd_input_next(&l->input, g->model.session, !busy, &kind, &line));
    l->end = kind == GD_INPUT_END;
    *dry = kind != GD_INPUT_LINE;
    l->read += !*dry;
    record *r = 0;
    gd_status status = !*dry && line.count ? add_record(l, &line, &r) : GD_OK;
    gd_bytes_free(&line);
    GD_TRY(status);
    if (r && r->texts) {
      r->first_slot = (int32_t)group * gd_generate_width(g);
      l->in_groups[group] = r;
    }
    GD_TRY(print_done(l));
  }
  return GD_OK;
}

/* Gives free slots to new records, as long as there are both; their prompts are read together. */
static gd_status fill(lines *l) {
  gd_generate *g = l->g;
  bool dry = false;
  int32_t count;
  do {
    count = 0;
    for (int64_t group = 0; group < g->batch && !l->end && !dry; group++) {
      if (l->in_groups[group]) continue;
      GD_TRY(take_record(l, group, &dry));
      const record *r = l->in_groups[group];
      if (r) l->starts[count++] = (gd_start){r->request, r->first_slot, r->texts};
    }
    if (count) GD_TRY(gd_generate_begin(g, l->starts, count));
    GD_TRY(collect(l)); /* a text may end with its first token */
    GD_TRY(print_done(l));
  } while (count && !l->end && !dry);
  return GD_OK;
}

static gd_status run(lines *l) {
  gd_generate *g = l->g;
  bool stop = false, busy = true;
  double start = gd_machine_seconds();
  while (busy || !l->end) {
    GD_TRY(gd_generate_stop_asked(g, &stop));
    if (stop) l->end = true;
    for (int64_t i = 0; stop && i < g->batch; i++)
      for (int32_t t = 0; l->in_groups[i] && t < gd_generate_texts(g); t++)
        GD_TRY(gd_generate_interrupt(g, &l->in_groups[i]->texts[t]));
    GD_TRY(fill(l));
    GD_TRY(gd_generate_step(g));
    GD_TRY(collect(l));
    GD_TRY(print_done(l));
    busy = false;
    for (int64_t i = 0; i < g->batch; i++) busy = busy || l->in_groups[i];
  }
  double seconds = gd_machine_seconds() - start;
  if (g->first && l->texts > 0)
    gd_log(GD_LOG_INFO, "%lld texts of %lld tokens in %.2f s (%.1f tokens/s, prompts and waiting included)",
           (long long)l->texts, (long long)l->tokens, seconds, seconds > 0 ? (double)l->tokens / seconds : 0.0);
  if (l->bad == 0) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "%lld of %lld lines were no use; the first: %s", (long long)l->bad, (long long)l->read,
                      l->first_bad);
}

gd_status gd_generate_lines(gd_generate *g) {
  lines l = {.g = g, .name = strcmp(g->jsonl, "-") ? g->jsonl : "standard input"};
  gd_status status = gd_session_agree(g->model.session, gd_input_open(&l.input, g->jsonl, g->first));
  l.in_groups = calloc((size_t)g->batch, sizeof *l.in_groups);
  l.starts = calloc((size_t)g->batch, sizeof *l.starts);
  if (status == GD_OK && (!l.in_groups || !l.starts))
    status = gd_fail(GD_NO_MEMORY, "no memory for %lld records", (long long)g->batch);
  if (status == GD_OK) status = run(&l);
  while (l.first) {
    record *r = l.first;
    l.first = r->next;
    free_record(r, gd_generate_texts(g));
  }
  free(l.in_groups);
  free(l.starts);
  gd_input_close(&l.input);
  return status;
}
