/* generate_lines.c - --jsonl: prompts to texts, several at once. */
#include <stdlib.h>
#include <string.h>

#include "comm/machine.h"
#include "launch/generate.h"
#include "launch/line_records.h"
#include "shard/base/log.h"

typedef struct record {
  gd_line_record line;
  gd_request request;
  gd_written *texts; /* NULL: it is bad */
  int32_t first_slot;
} record;

typedef struct writer {
  gd_generate *g;
  gd_lines lines;
  record **in_groups;    /* [batch]: whose slots they are, or NULL */
  gd_start *starts;      /* [batch], scratch */
  int64_t texts, tokens; /* made */
} writer;

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
  for (const gd_json *e = gd_json_is_array(ids) ? gd_json_first(ids) : NULL; e; e = gd_json_next(e)) {
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
  const gd_json *node;
  GD_TRY(gd_lines_member(line, key, &node));
  if (!node || (gd_json_integer(node, out) && *out >= 0 && *out <= most)) return GD_OK;
  return gd_fail_user(GD_BAD_DATA, "\"%s\": expected a whole number from 0 to %lld", key, (long long)most);
}

static gd_status read_prompt(gd_generate *g, const gd_json *line, gd_ids *out) {
  const gd_json *prompt, *messages, *ids;
  GD_TRY(gd_lines_member(line, "prompt", &prompt));
  GD_TRY(gd_lines_member(line, "messages", &messages));
  GD_TRY(gd_lines_member(line, "token_ids", &ids));
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

static gd_status read_record(void *context, const gd_json *object, const gd_bytes *text, gd_line_record *line) {
  gd_generate *g = context;
  record *r = (record *)(void *)line;
  int64_t seed = g->seed, most = -1;
  (void)text;
  GD_TRY(read_number(object, "seed", (int64_t)9e15, &seed));
  GD_TRY(read_number(object, "max_new_tokens", (int64_t)1e9, &most));
  GD_TRY(read_prompt(g, object, &r->request.prompt));
  GD_TRY(gd_generator_check(&g->model.model, r->request.prompt.ids, (int64_t)r->request.prompt.count));
  r->request.seed = (uint64_t)seed;
  r->request.max_new_tokens = gd_generate_most(g, most, r->request.prompt.count);
  r->texts = calloc((size_t)gd_generate_texts(g), sizeof *r->texts);
  return r->texts ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for a record");
}

static void release_record(void *context, gd_line_record *line) {
  record *r = (record *)(void *)line;
  for (int32_t i = 0; r->texts && i < gd_generate_texts(context); i++) gd_written_free(&r->texts[i]);
  free(r->texts);
  gd_ids_free(&r->request.prompt);
}

/* ---- records ---- */

static bool has_stopped(const gd_generate *g, const record *r) {
  for (int32_t i = 0; i < gd_generate_texts(g); i++)
    if (!r->texts[i].stopped_by) return false;
  return true;
}

static gd_status tell(const gd_generate *g, record *r) {
  int32_t order[GD_MOST_SAMPLES];
  gd_bytes *out = &r->line.out;
  gd_generate_rank(g, r->texts, order);
  GD_TRY(gd_bytes_printf(out, "{"));
  if (r->line.id.count) GD_TRY(gd_bytes_printf(out, "%s,", r->line.id.bytes));
  GD_TRY(gd_bytes_printf(out, "\"prompt_tokens\":%zu,", r->request.prompt.count));
  if (gd_generate_texts(g) == 1) {
    GD_TRY(gd_written_json(g, &r->texts[0], out));
    return gd_bytes_printf(out, "}");
  }
  GD_TRY(gd_bytes_printf(out, "\"samples\":["));
  for (int32_t i = 0; i < gd_generate_texts(g); i++) {
    GD_TRY(gd_bytes_printf(out, i ? ",{" : "{"));
    GD_TRY(gd_written_json(g, &r->texts[order[i]], out));
    GD_TRY(gd_bytes_printf(out, "}"));
  }
  return gd_bytes_printf(out, "]}");
}

/* Records that have stopped leave their slots. */
static gd_status collect(writer *w) {
  gd_generate *g = w->g;
  for (int64_t group = 0; group < g->batch; group++) {
    record *r = w->in_groups[group];
    if (!r || !has_stopped(g, r)) continue;
    for (int32_t i = 0; i < gd_generate_width(g); i++) g->in_slots[r->first_slot + i] = 0;
    w->in_groups[group] = 0;
    for (int32_t i = 0; i < gd_generate_texts(g); i++) w->tokens += (int64_t)r->texts[i].tokens.count;
    w->texts += gd_generate_texts(g);
    GD_TRY(tell(g, r));
  }
  return GD_OK;
}

static bool is_busy(const writer *w) {
  for (int64_t i = 0; i < w->g->batch; i++)
    if (w->in_groups[i]) return true;
  return false;
}

/* The next record that is of use, for a group of slots; *dry: there is none. Waits for a line only where nothing else is to be
 * done. */
static gd_status take_record(writer *w, int64_t group, bool *dry) {
  while (!w->in_groups[group] && !*dry) {
    gd_line_record *line;
    GD_TRY(gd_lines_next(&w->lines, !is_busy(w), &line));
    *dry = !line;
    record *r = (record *)(void *)line;
    if (line && !line->out.count) {
      r->first_slot = (int32_t)group * gd_generate_width(w->g);
      w->in_groups[group] = r;
    }
    GD_TRY(gd_lines_print(&w->lines));
  }
  return GD_OK;
}

/* Gives free slots to new records, as long as there are both; their prompts are read together. */
static gd_status fill(writer *w) {
  gd_generate *g = w->g;
  bool dry = false;
  int32_t count;
  do {
    count = 0;
    for (int64_t group = 0; group < g->batch && !dry; group++) {
      if (w->in_groups[group]) continue;
      GD_TRY(take_record(w, group, &dry));
      const record *r = w->in_groups[group];
      if (r) w->starts[count++] = (gd_start){r->request, r->first_slot, r->texts};
    }
    if (count) GD_TRY(gd_generate_begin(g, w->starts, count));
    GD_TRY(collect(w)); /* a text may end with its first token */
    GD_TRY(gd_lines_print(&w->lines));
  } while (count && !dry);
  return GD_OK;
}

static gd_status run(writer *w) {
  gd_generate *g = w->g;
  bool stop = false;
  double start = gd_machine_seconds();
  while (is_busy(w) || !w->lines.end) {
    GD_TRY(gd_inference_stop_asked(g->model.session, &stop));
    if (stop) w->lines.end = true;
    for (int64_t i = 0; stop && i < g->batch; i++)
      for (int32_t t = 0; w->in_groups[i] && t < gd_generate_texts(g); t++)
        GD_TRY(gd_generate_interrupt(g, &w->in_groups[i]->texts[t]));
    GD_TRY(fill(w));
    GD_TRY(gd_generate_step(g));
    GD_TRY(collect(w));
    GD_TRY(gd_lines_print(&w->lines));
  }
  double seconds = gd_machine_seconds() - start;
  if (g->first && w->texts > 0)
    gd_log(GD_LOG_INFO, "%lld texts of %lld tokens in %.2f s (%.1f tokens/s, prompts and waiting included)",
           (long long)w->texts, (long long)w->tokens, seconds, seconds > 0 ? (double)w->tokens / seconds : 0.0);
  return gd_lines_verdict(&w->lines);
}

gd_status gd_generate_lines(gd_generate *g) {
  const gd_line_kind kind = {sizeof(record), read_record, release_record, g};
  writer w = {.g = g};
  gd_status status = gd_lines_open(g->model.session, g->jsonl, &(gd_line_format){GD_LINES_OBJECTS, NULL}, &kind, &w.lines);
  w.in_groups = calloc((size_t)g->batch, sizeof *w.in_groups);
  w.starts = calloc((size_t)g->batch, sizeof *w.starts);
  if (status == GD_OK && (!w.in_groups || !w.starts))
    status = gd_fail(GD_NO_MEMORY, "no memory for %lld records", (long long)g->batch);
  if (status == GD_OK) status = run(&w);
  free(w.in_groups);
  free(w.starts);
  gd_lines_close(&w.lines);
  return status;
}
