/* exchange.c - writes the stages: recursive halving between neighbours, all to all for what is left over, the tree's end. */
#include "shard/exchange.h"

#include <stdlib.h>
#include <string.h>

/* The nodes that I hold so far: those of the data ranks [first, end), and where. */
typedef struct holding {
  int32_t first, end;
  int32_t count;
  gd_tree_node nodes[2 * GD_TREE_MAX_NODES];
  int32_t buffers[2 * GD_TREE_MAX_NODES];
} holding;

typedef struct builder {
  const gd_spec *spec;
  int32_t data_ranks, rank;
  gd_exchange *out;
  int32_t buffer_room, message_room, add_room;
} builder;

/* What the data ranks [first, end) hold together once their sums are merged. */
static int nodes_of(const builder *b, int32_t first, int32_t end, gd_tree_node nodes[GD_TREE_MAX_NODES]) {
  if (b->spec->numerics == GD_NUMERICS_FAST) return gd_tree_nodes(first, end, nodes);
  gd_deal low = gd_deal_share(b->spec, b->data_ranks, first), high = gd_deal_share(b->spec, b->data_ranks, end - 1);
  int64_t past = high.first_sequence + high.sequences;
  return gd_deal_nodes(b->spec, (gd_deal){low.first_sequence, (int32_t)(past - low.first_sequence)}, nodes);
}

static gd_status room(void **array, int32_t used, int32_t *room, size_t bytes) {
  if (used < *room) return GD_OK;
  int32_t larger = *room ? 2 * *room : 64;
  void *moved = realloc(*array, (size_t)larger * bytes);
  if (!moved) return gd_fail(GD_NO_MEMORY, "no memory for an exchange of %d entries", larger);
  *array = moved;
  *room = larger;
  return GD_OK;
}

static gd_status add_buffer(builder *b, gd_exchange_buffer buffer, int32_t *index) {
  GD_TRY(room((void **)&b->out->buffer, b->out->buffers, &b->buffer_room, sizeof buffer));
  *index = b->out->buffers++;
  b->out->buffer[*index] = buffer;
  return GD_OK;
}

static gd_status add_message(builder *b, gd_exchange_message message) {
  GD_TRY(room((void **)&b->out->message, b->out->messages, &b->message_room, sizeof message));
  b->out->message[b->out->messages++] = message;
  return GD_OK;
}

static gd_status add_addition(builder *b, gd_tree_add addition) {
  GD_TRY(room((void **)&b->out->add, b->out->adds, &b->add_room, sizeof addition));
  b->out->add[b->out->adds++] = addition;
  return GD_OK;
}

/* Sends all that I hold of the pieces [first, first + pieces). */
static gd_status send_to(builder *b, const holding *mine, int32_t peer, int32_t first, int32_t pieces) {
  for (int32_t i = 0; i < mine->count; i++)
    GD_TRY(add_message(b, (gd_exchange_message){true, peer, mine->buffers[i], first, pieces}));
  return GD_OK;
}

/* Receives the nodes of data ranks [first_rank, end_rank) for the pieces kept, behind those already in `to`. */
static gd_status receive_from(builder *b, int32_t peer, int32_t first_rank, int32_t end_rank, int32_t first, int32_t pieces,
                              holding *to) {
  gd_tree_node nodes[GD_TREE_MAX_NODES];
  int count = nodes_of(b, first_rank, end_rank, nodes);
  for (int i = 0; i < count; i++) {
    gd_exchange_buffer buffer = {-1, first, b->out->received_pieces};
    GD_TRY(add_buffer(b, buffer, &to->buffers[to->count]));
    b->out->received_pieces += pieces;
    GD_TRY(add_message(b, (gd_exchange_message){false, peer, to->buffers[to->count], first, pieces}));
    to->nodes[to->count++] = nodes[i];
  }
  return GD_OK;
}

static void append(const holding *from, holding *to) {
  memcpy(to->nodes + to->count, from->nodes, (size_t)from->count * sizeof *from->nodes);
  memcpy(to->buffers + to->count, from->buffers, (size_t)from->count * sizeof *from->buffers);
  to->count += from->count;
}

/* Neighbouring nodes that are one larger node of `whole` are added. */
static gd_status merge(builder *b, const gd_tree_node *whole, int wholes, holding *h) {
  int32_t kept = 0, at = 0;
  for (int w = 0; w < wholes; w++) {
    gd_tree_node parts[2 * GD_TREE_MAX_NODES];
    gd_tree_add adds[2 * GD_TREE_MAX_NODES];
    int32_t first = at, count = 0;
    for (; at < h->count && h->nodes[at].first < whole[w].first + whole[w].count; at++)
      parts[count++] = (gd_tree_node){h->nodes[at].first - whole[w].first, h->nodes[at].count};
    int added = gd_tree_finish(parts, count, adds);
    for (int i = 0; i < added; i++)
      GD_TRY(add_addition(b, (gd_tree_add){h->buffers[first + adds[i].to], h->buffers[first + adds[i].from]}));
    h->nodes[kept] = whole[w];
    h->buffers[kept++] = h->buffers[first];
  }
  h->count = kept;
  return GD_OK;
}

static gd_exchange_stage *open_stage(builder *b, int32_t first, int32_t pieces) {
  gd_exchange_stage *stage = &b->out->stage[b->out->stages++];
  *stage = (gd_exchange_stage){first, pieces, b->out->messages, 0, b->out->adds, 0};
  return stage;
}

static void close_stage(const builder *b, gd_exchange_stage *stage) {
  stage->messages = b->out->messages - stage->first_message;
  stage->adds = b->out->adds - stage->first_add;
}

/* Stage k: [first, first + 2 half) were mine to work on. */
static gd_status halve(builder *b, int32_t bit, int32_t first, int32_t half, holding *h) {
  bool low = !(b->rank & bit);
  int32_t peer = b->rank ^ bit, keep = low ? first : first + half, give = low ? first + half : first;
  gd_exchange_stage *stage = open_stage(b, keep, half);
  holding both = {.first = low ? h->first : h->first - bit, .end = low ? h->end + bit : h->end};
  gd_tree_node whole[GD_TREE_MAX_NODES];
  GD_TRY(send_to(b, h, peer, give, half));
  if (low) append(h, &both);
  GD_TRY(receive_from(b, peer, low ? h->end : both.first, low ? both.end : h->first, keep, half, &both));
  if (!low) append(h, &both);
  int wholes = nodes_of(b, both.first, both.end, whole);
  GD_TRY(merge(b, whole, wholes, &both));
  close_stage(b, stage);
  *h = both;
  return GD_OK;
}

/* What is left of all ranks: pieces [first, first + m), one for each of the ranks whose low bits are mine. */
static gd_status finish(builder *b, int32_t block, int32_t first, const holding *h) {
  int32_t m = b->data_ranks / block, low = b->rank % block, mine = b->rank / block;
  gd_tree_node nodes[GD_TREE_MAX_NODES], *all = NULL;
  int32_t *buffers = NULL, total = 0;
  for (int32_t g = 0; g < m; g++) total += nodes_of(b, g * block, (g + 1) * block, nodes);
  all = malloc((size_t)total * sizeof *all);
  buffers = malloc((size_t)total * sizeof *buffers);
  gd_tree_add *adds = malloc((size_t)total * sizeof *adds);
  gd_status status = all && buffers && adds ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for an exchange of %d nodes", total);
  gd_exchange_stage *stage = open_stage(b, first + mine, 1);
  for (int32_t step = 1; step < m && status == GD_OK; step++) {
    int32_t g = (mine + step) % m;
    status = send_to(b, h, g * block + low, first + g, 1);
  }
  int32_t at = 0;
  for (int32_t g = 0; g < m && status == GD_OK; g++) {
    holding theirs = {.count = 0};
    if (g == mine)
      theirs = *h;
    else
      status = receive_from(b, g * block + low, g * block, (g + 1) * block, first + mine, 1, &theirs);
    memcpy(all + at, theirs.nodes, (size_t)theirs.count * sizeof *all);
    memcpy(buffers + at, theirs.buffers, (size_t)theirs.count * sizeof *buffers);
    at += theirs.count;
  }
  if (status == GD_OK) {
    int added = gd_tree_finish(all, total, adds);
    for (int i = 0; i < added && status == GD_OK; i++)
      status = add_addition(b, (gd_tree_add){buffers[adds[i].to], buffers[adds[i].from]});
    b->out->result = buffers[0];
    close_stage(b, stage);
  }
  free(all), free(buffers), free(adds);
  return status;
}

static gd_status build(builder *b) {
  holding h = {.first = b->rank, .end = b->rank + 1};
  h.count = gd_deal_sums(b->spec, b->data_ranks, b->rank, h.nodes);
  for (int32_t i = 0; i < h.count; i++) GD_TRY(add_buffer(b, (gd_exchange_buffer){i, 0, 0}, &h.buffers[i]));
  int32_t first = 0, pieces = b->data_ranks, bit = 1;
  for (; pieces % 2 == 0; bit *= 2) {
    pieces /= 2;
    GD_TRY(halve(b, bit, first, pieces, &h));
    if (b->rank & bit) first += pieces;
  }
  return finish(b, bit, first, &h);
}

gd_status gd_exchange_create(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, gd_exchange *out) {
  enum { STAGES = 33 };
  memset(out, 0, sizeof *out);
  builder b = {.spec = spec, .data_ranks = data_ranks, .rank = data_rank, .out = out};
  out->stage = calloc(STAGES, sizeof *out->stage);
  gd_status status = out->stage ? build(&b) : gd_fail(GD_NO_MEMORY, "no memory for an exchange");
  if (status != GD_OK) gd_exchange_free(out);
  return status;
}

void gd_exchange_count(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, int64_t *sent, int64_t *received) {
  const builder b = {.spec = spec, .data_ranks = data_ranks, .rank = data_rank};
  gd_tree_node nodes[GD_TREE_MAX_NODES];
  int32_t pieces = data_ranks, bit = 1;
  *sent = *received = 0;
  for (; pieces % 2 == 0; bit *= 2) {
    pieces /= 2;
    int32_t mine = data_rank / bit * bit, peers = mine ^ bit; /* the first ranks of those whose sums each of us two has */
    *sent += (int64_t)pieces * nodes_of(&b, mine, mine + bit, nodes);
    *received += (int64_t)pieces * nodes_of(&b, peers, peers + bit, nodes);
  }
  for (int32_t first = 0; first < data_ranks; first += bit) {
    int nodes_there = nodes_of(&b, first, first + bit, nodes);
    if (first == data_rank / bit * bit)
      *sent += (int64_t)(pieces - 1) * nodes_there;
    else
      *received += nodes_there;
  }
}

void gd_exchange_free(gd_exchange *exchange) {
  free(exchange->stage);
  free(exchange->buffer);
  free(exchange->message);
  free(exchange->add);
  memset(exchange, 0, sizeof *exchange);
}
