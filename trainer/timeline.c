/* timeline.c - stamps of the streams' clocks, and the file that is made of them. */
#include "trainer/timeline.h"

#include <stdio.h>
#include <stdlib.h>

#include "comm/machine.h"
#include "io/base/files.h"
#include "io/base/json.h"

enum { BLOCK_SPANS = 512, CLOCK_ROUNDS = 16 };

/* A row, or a call inside one. Whoever runs the stream writes the times. */
typedef struct span {
  double began, ended;
  int64_t step;
  int32_t row;
  const gd_action *action;
  const char *call; /* NULL: the row itself */
  const char *group;
  int64_t bytes; /* of a call: sent to others */
  bool beside;   /* on the communication stream */
} span;

/* Spans stay where they are: the streams know their places. */
typedef struct block {
  struct block *next;
  int32_t count;
  span spans[BLOCK_SPANS];
} block;

struct gd_timeline {
  gd_session *session;
  gd_device *device;
  const gd_spec *spec;
  const gd_layout *layout;
  int64_t first_step;
  gd_clock_bounds clock;
  double origin; /* of rank 0's clock */
  block *first, *last;
  span *row, *call; /* open ones */
  gd_stream *stream;
};

/* ---- clocks ---- */

double gd_clock_ahead(gd_clock_bounds bounds) {
  return bounds.least <= 0 && bounds.most >= 0 ? 0 : (bounds.least + bounds.most) / 2;
}

/* A message from rank 0 that was sent at its a and is here at my b says that I am at most b - a ahead; one of mine that was
 * sent at c and is there at d, at least c - d. The quickest of some rounds counts. */
static gd_status compare_clocks(gd_timeline *t) {
  bool first = gd_session_rank(t->session) == 0;
  double *everyone = malloc((size_t)gd_session_ranks(t->session) * sizeof(double));
  double told[2] = {0, 0}, sent = 0; /* rank 0's clock when it had all of the round before, and as it sends this */
  if (!everyone) return gd_fail(GD_NO_MEMORY, "no memory for the clocks of the ranks");
  t->clock = (gd_clock_bounds){-1e300, 1e300};
  gd_status status = GD_OK;
  for (int i = 0; i < CLOCK_ROUNDS; i++) {
    told[1] = gd_machine_seconds();
    GD_TRY_GOTO(status, done, gd_session_broadcast(t->session, told, sizeof told, 0));
    double now = gd_machine_seconds();
    if (now - told[1] < t->clock.most) t->clock.most = now - told[1];
    if (i > 0 && sent - told[0] > t->clock.least) t->clock.least = sent - told[0];
    sent = gd_machine_seconds();
    GD_TRY_GOTO(status, done, gd_session_all_gather(t->session, &sent, everyone, sizeof sent));
    told[0] = gd_machine_seconds();
  }
  if (first) t->clock = (gd_clock_bounds){0, 0};
  t->origin = told[1];
done:
  free(everyone);
  return status;
}

/* ---- stamps ---- */

static gd_status read_clock(void *arguments) {
  **(double **)arguments = gd_machine_seconds();
  return GD_OK;
}

static gd_status stamp(const gd_timeline *t, gd_stream *stream, double *place) {
  return t->device->ops->enqueue(stream, "timeline", read_clock, &place, sizeof place, place, sizeof *place);
}

static gd_status add_span(gd_timeline *t, span what, gd_stream *stream, span **out) {
  if (!t->last || t->last->count == BLOCK_SPANS) {
    block *more = calloc(1, sizeof *more);
    if (!more) return gd_fail(GD_NO_MEMORY, "no memory for the timeline");
    *(t->last ? &t->last->next : &t->first) = more;
    t->last = more;
  }
  span *place = &t->last->spans[t->last->count++];
  *place = what;
  place->beside = stream == t->device->communication;
  *out = place;
  return stamp(t, stream, &place->began);
}

gd_status gd_timeline_begin(gd_timeline *t, gd_stream *stream, int64_t step, int32_t row, const gd_action *action) {
  if (gd_timeline_whole(t, step)) return GD_OK;
  t->stream = stream;
  return add_span(t, (span){.step = step, .row = row, .action = action}, stream, &t->row);
}

gd_status gd_timeline_end(gd_timeline *t) {
  span *row = t->row;
  t->row = NULL;
  return row ? stamp(t, t->stream, &row->ended) : GD_OK;
}

static int64_t sent_by(const gd_group *group) {
  int64_t sum = 0;
  for (int32_t r = 0; r < group->size; r++) sum += group->traffic.sent[r];
  return sum;
}

/* A gd_call_seen. */
static gd_status see_call(void *context, const gd_group *group, const char *call, gd_stream *stream, bool end) {
  gd_timeline *t = context;
  if (!t->row || group->size == 1) return GD_OK;
  if (end) {
    t->call->bytes += sent_by(group);
    return stamp(t, stream, &t->call->ended);
  }
  span what = {.step = t->row->step, .row = t->row->row, .action = t->row->action, .call = call, .group = group->name};
  what.bytes = -sent_by(group);
  return add_span(t, what, stream, &t->call);
}

/* ---- open, close ---- */

gd_status gd_timeline_open(gd_session *session, gd_device *device, const gd_spec *spec, const gd_layout *layout,
                           int64_t first_step, gd_timeline **out) {
  gd_timeline *t = calloc(1, sizeof *t);
  if (!t) return gd_fail(GD_NO_MEMORY, "no memory for the timeline");
  *out = t;
  *t = (gd_timeline){.session = session, .device = device, .spec = spec, .layout = layout, .first_step = first_step};
  gd_session_see_calls(session, see_call, t);
  return compare_clocks(t);
}

void gd_timeline_close(gd_timeline *t) {
  if (!t) return;
  gd_session_see_calls(t->session, NULL, NULL);
  while (t->first) {
    block *next = t->first->next;
    free(t->first);
    t->first = next;
  }
  free(t);
}

bool gd_timeline_whole(const gd_timeline *t, int64_t steps) {
  return steps - t->first_step >= t->spec->log.timeline;
}

/* ---- the file ---- */

static gd_status print_span(const gd_timeline *t, const span *s, int32_t rank, gd_bytes *out) {
  const gd_action *a = s->action;
  double since = t->origin + gd_clock_ahead(t->clock);
  const char *bucket = a->bucket >= 0 ? t->layout->buckets[a->bucket].name : NULL;
  GD_TRY(gd_bytes_printf(out, ",\n{\"ph\": \"X\", \"pid\": %d, \"tid\": %d, \"ts\": %.3f, \"dur\": %.3f, \"cat\": \"%s\", ",
                         rank, s->beside ? 1 : 0, (s->began - since) * 1e6, (s->ended - s->began) * 1e6,
                         s->call ? "call" : "row"));
  GD_TRY(gd_bytes_printf(out, "\"name\": \"%s", s->call ? s->call : gd_action_name(a->kind)));
  if (!s->call && bucket) GD_TRY(gd_bytes_printf(out, " %s", bucket));
  if (!s->call && a->layers == 1) GD_TRY(gd_bytes_printf(out, " layers.%d", a->first_layer));
  GD_TRY(gd_bytes_printf(out, "\", \"args\": {\"step\": %lld, \"row\": %d", (long long)s->step + 1, s->row));
  if (a->micro >= 0) GD_TRY(gd_bytes_printf(out, ", \"micro\": %d", a->micro));
  if (a->layers) GD_TRY(gd_bytes_printf(out, ", \"first_layer\": %d, \"layers\": %d", a->first_layer, a->layers));
  if (bucket) GD_TRY(gd_bytes_printf(out, ", \"bucket\": \"%s\"", bucket));
  if (s->call) GD_TRY(gd_bytes_printf(out, ", \"group\": \"%s\", \"bytes\": %lld", s->group, (long long)s->bytes));
  return gd_bytes_printf(out, "}}");
}

static gd_status print_heading(const gd_timeline *t, int32_t rank, gd_bytes *out) {
  char name[32 + GD_PATH_BYTES], clock[96];
  int used = snprintf(name, sizeof name, "rank %d on %s", rank, gd_session_host(t->session));
  snprintf(clock, sizeof clock, "clock known within %.0f us", (t->clock.most - t->clock.least) * 1e6);
  GD_TRY(gd_bytes_printf(out, "[{\"ph\": \"M\", \"pid\": %d, \"name\": \"process_name\", \"args\": {\"name\": ", rank));
  GD_TRY(gd_json_quote(out, name, (size_t)used < sizeof name ? (size_t)used : sizeof name - 1));
  GD_TRY(gd_bytes_printf(
      out, "}},\n{\"ph\": \"M\", \"pid\": %d, \"name\": \"process_sort_index\", \"args\": {\"sort_index\": %d}}", rank, rank));
  GD_TRY(gd_bytes_printf(out, ",\n{\"ph\": \"M\", \"pid\": %d, \"name\": \"process_labels\", \"args\": {\"labels\": \"%s\"}}",
                         rank, clock));
  static const char *const streams[] = {"compute", "communication"};
  for (int i = 0; i < 2; i++)
    GD_TRY(gd_bytes_printf(
        out, ",\n{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"thread_name\", \"args\": {\"name\": \"%s\"}}", rank, i,
        streams[i]));
  return GD_OK;
}

gd_status gd_timeline_write(const gd_timeline *t) {
  int32_t rank = gd_session_rank(t->session);
  char folder[GD_PATH_BYTES + 32], name[32], path[GD_PATH_BYTES];
  gd_bytes text = {0};
  if (!t->first) return GD_OK; /* no step: what an earlier start drew stays */
  snprintf(folder, sizeof folder, "%s/timeline", t->spec->run.directory);
  snprintf(name, sizeof name, "rank-%05d.json", rank);
  GD_TRY(gd_folder_make(folder));
  GD_TRY(gd_path_join(path, sizeof path, folder, name));
  gd_status status = print_heading(t, rank, &text);
  for (const block *b = t->first; b; b = b->next)
    for (int32_t i = 0; i < b->count && status == GD_OK; i++) status = print_span(t, &b->spans[i], rank, &text);
  if (status == GD_OK) status = gd_bytes_printf(&text, "\n]\n");
  if (status == GD_OK) status = gd_file_replace(path, text.bytes, text.count);
  gd_bytes_free(&text);
  return status;
}
