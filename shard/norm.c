/* norm.c - writes the stages of the gradient norm: lists of tree nodes that double in reach, from pieces to the whole model. */
#include "shard/norm.h"

#include <stdlib.h>
#include <string.h>

#include "shard/deal.h"

/* Leaves [first, end) of a parameter's tree. */
typedef struct leaves {
  int64_t first, end;
} leaves;

/* What tensor rank `tensor` has of a parameter's gradient in pieces [first, end) of its bucket; first == end: nothing. */
static leaves leaves_of(const gd_layout *layout, const gd_parameter *p, int32_t tensor, int64_t first, int64_t end) {
  const gd_bucket *bucket = &layout->buckets[p->bucket];
  int64_t units = p->blocks * (p->block_elems / GD_UNIT_ELEMS), before = tensor * units;
  if (!p->trained) return (leaves){0, 0};
  if (p->cut == GD_CUT_NONE) {
    if (tensor != 0) return (leaves){0, 0};
    before = 0;
  }
  int64_t piece = bucket->piece / GD_UNIT_ELEMS, start = p->offset / GD_UNIT_ELEMS;
  int64_t from = first * piece - start, to = end * piece - start;
  if (from < 0) from = 0;
  if (to > units) to = units;
  return from < to ? (leaves){before + from, before + to} : (leaves){0, 0};
}

/* ---- how much there is ---- */

/* Nodes of the list of tensor rank `tensor` over pieces [first, end). */
static int64_t count_list(const gd_layout *layout, int32_t tensor, int64_t first, int64_t end) {
  int64_t nodes = 0;
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    leaves l = leaves_of(layout, &layout->parameters[i], tensor, first, end);
    nodes += gd_tree_node_count(l.first, l.end);
  }
  return nodes;
}

/* Nodes of the lists of each of these pieces, together. */
static int64_t count_pieces(const gd_layout *layout, int32_t tensor, int64_t first, int64_t end) {
  int64_t nodes = 0;
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    const gd_parameter *p = &layout->parameters[i];
    const gd_bucket *bucket = &layout->buckets[p->bucket];
    int64_t piece = p->offset / bucket->piece; /* the first that the parameter meets */
    for (piece = piece > first ? piece : first; piece < end; piece++) {
      leaves l = leaves_of(layout, p, tensor, piece, piece + 1);
      if (l.first == l.end) break;
      nodes += gd_tree_node_count(l.first, l.end);
    }
  }
  return nodes;
}

/* One stage in which `lists` nodes meet, `mine` of them here before it, and become `sums`. */
static void count_stage(gd_norm_size *size, int64_t lists, int64_t mine, int64_t sums) {
  size->nodes += lists - mine + sums;
  size->indices += sums + 1 + 2 * lists;
}

/* Data ranks whose low bits are the same: N = 2^a m gives m. */
static int32_t odd_part(int32_t ranks) {
  while (ranks % 2 == 0) ranks /= 2;
  return ranks;
}

void gd_norm_count(const gd_layout *layout, gd_norm_size *out) {
  int32_t data = layout->mesh.size[GD_AXIS_DATA], rank = layout->coordinates[GD_AXIS_DATA], width = odd_part(data);
  int32_t tensor_ranks = layout->mesh.size[GD_AXIS_TENSOR], tensor = layout->coordinates[GD_AXIS_TENSOR];
  int32_t piece = gd_deal_piece(data, rank), first = piece - rank / (data / width);
  int64_t mine = count_list(layout, tensor, piece, piece + 1);
  *out = (gd_norm_size){.nodes = mine, .indices = 2 * mine};
  for (int32_t i = 0; i < layout->parameter_count; i++) out->parameters += layout->parameters[i].trained;
  if (width > 1) {
    int64_t lists = count_pieces(layout, tensor, first, first + width), sums = count_list(layout, tensor, first, first + width);
    count_stage(out, lists, mine, sums);
    out->data_messages = 2 * (width - 1);
    out->data_nodes = (width - 1) * mine;
    mine = sums;
  }
  for (; width < data; width *= 2) {
    int32_t both = first / (2 * width) * (2 * width), other = both + (first == both ? width : 0);
    int64_t lists = mine + count_list(layout, tensor, other, other + width);
    int64_t sums = count_list(layout, tensor, both, both + 2 * width);
    count_stage(out, lists, mine, sums);
    out->data_messages += 2;
    out->data_nodes += mine;
    mine = sums;
    first = both;
  }
  int64_t lists = 0;
  for (int32_t t = 0; t < tensor_ranks; t++) lists += count_list(layout, t, 0, data);
  count_stage(out, lists, mine, out->parameters);
  out->tensor_messages = 2 * (tensor_ranks - 1);
  out->tensor_nodes = (tensor_ranks - 1) * mine;
}

/* ---- the stages ---- */

/* The list of a tensor rank over pieces [first, end): whom it comes from, and where its nodes lie. */
typedef struct list {
  int32_t peer, tensor;
  int32_t first, end;
  int32_t first_node, nodes;
} list;

typedef struct builder {
  const gd_layout *layout;
  gd_norm_table *out;
  int32_t *names; /* [size.parameters]: their indices in name order */
  list *lists;    /* those that meet in a stage */
  int32_t nodes, indices, messages;
} builder;

static int by_name(const void *a, const void *b, void *base) {
  const gd_parameter *items = base;
  return strcmp(items[*(const int32_t *)a].name, items[*(const int32_t *)b].name);
}

/* The k-th parameter in name order, and the nodes that a list has of it. */
static int nodes_of(const builder *b, const list *of, int32_t k, gd_tree_node nodes[GD_TREE_MAX_NODES]) {
  leaves l = leaves_of(b->layout, &b->layout->parameters[b->names[k]], of->tensor, of->first, of->end);
  return gd_tree_nodes(l.first, l.end, nodes);
}

/* My own nodes, out of units. */
static void begin(builder *b, const list *mine) {
  const gd_layout *layout = b->layout;
  gd_norm_table *out = b->out;
  int32_t node = 0;
  out->my_nodes = mine->nodes;
  out->unit_first = 0;
  out->unit_count = mine->nodes;
  for (int32_t k = 0; k < out->size.parameters; k++) {
    const gd_parameter *p = &layout->parameters[b->names[k]];
    gd_tree_node nodes[GD_TREE_MAX_NODES];
    int count = nodes_of(b, mine, k, nodes);
    if (count == 0) continue;
    /* The first of these leaves is the first unit of the piece or of the parameter. */
    int64_t start = gd_layout_piece(layout, p->bucket, layout->coordinates[GD_AXIS_DATA]).offset, unit = 0;
    if (p->offset > start) unit = (p->offset - start) / GD_UNIT_ELEMS;
    for (int32_t i = 0; i < p->bucket; i++)
      if (layout->buckets[i].trained) unit += layout->buckets[i].piece / GD_UNIT_ELEMS;
    for (int i = 0; i < count; i++, node++) {
      out->index[out->unit_first + node] = (int32_t)(unit + nodes[i].first - nodes[0].first);
      out->index[out->unit_count + node] = (int32_t)nodes[i].count;
    }
  }
  b->nodes = node;
  b->indices = 2 * node;
}

/* b->lists[mine] goes to all others of these, theirs come here. */
static void swap_lists(builder *b, gd_norm_stage *stage, int32_t count, int32_t mine) {
  stage->first_message = b->messages;
  for (int32_t step = 1; step < count; step++) {
    list *other = &b->lists[(mine + step) % count];
    other->first_node = b->nodes;
    b->nodes += other->nodes;
    b->out->message[b->messages++] = (gd_norm_message){true, other->peer, b->lists[mine].first_node, b->lists[mine].nodes};
    b->out->message[b->messages++] = (gd_norm_message){false, other->peer, other->first_node, other->nodes};
  }
  stage->messages = b->messages - stage->first_message;
}

/* The sums that the nodes of `count` neighbouring lists are parts of: the nodes of the list over all of them, `whole`, or,
 * where this is NULL, the roots. */
static void sum_lists(builder *b, gd_norm_stage *stage, int32_t count, const list *whole) {
  int32_t sum = 0, part = 0;
  stage->first_node = b->nodes;
  stage->sums = whole ? whole->nodes : (int32_t)b->out->size.parameters;
  for (int32_t i = 0; i < count; i++) stage->parts += b->lists[i].nodes;
  stage->first = b->indices;
  stage->from = stage->first + stage->sums + 1;
  stage->leaf = stage->from + stage->parts;
  b->nodes += stage->sums;
  b->indices = stage->leaf + stage->parts;
  int32_t *first = b->out->index + stage->first, *from = b->out->index + stage->from, *leaf = b->out->index + stage->leaf;
  for (int32_t k = 0; k < b->out->size.parameters; k++) {
    gd_tree_node sums[GD_TREE_MAX_NODES] = {{0, 0}}, parts[GD_TREE_MAX_NODES];
    int wholes = whole ? nodes_of(b, whole, k, sums) : 1, next = 0;
    for (int32_t i = 0; i < count; i++) {
      int held = nodes_of(b, &b->lists[i], k, parts);
      for (int n = 0; n < held; n++, part++) {
        if (next < wholes && parts[n].first == sums[next].first) {
          first[sum++] = part;
          next++;
        }
        from[part] = b->lists[i].first_node++;
        leaf[part] = (int32_t)parts[n].first;
      }
    }
  }
  first[sum] = part;
}

static list list_of(const builder *b, int32_t peer, int32_t tensor, int32_t first, int32_t end) {
  return (list){peer, tensor, first, end, 0, (int32_t)count_list(b->layout, tensor, first, end)};
}

/* b->lists[mine] is what I hold; it becomes the list over all of them. */
static list join(builder *b, int32_t count, int32_t mine) {
  list whole = list_of(b, 0, b->lists[0].tensor, b->lists[0].first, b->lists[count - 1].end);
  gd_norm_stage *stage = &b->out->stage[b->out->stages++];
  *stage = (gd_norm_stage){.axis = GD_AXIS_DATA};
  swap_lists(b, stage, count, mine);
  sum_lists(b, stage, count, &whole);
  whole.first_node = stage->first_node;
  return whole;
}

static void build(builder *b) {
  const gd_layout *layout = b->layout;
  int32_t data = layout->mesh.size[GD_AXIS_DATA], rank = layout->coordinates[GD_AXIS_DATA], width = odd_part(data);
  int32_t tensor_ranks = layout->mesh.size[GD_AXIS_TENSOR], tensor = layout->coordinates[GD_AXIS_TENSOR];
  int32_t piece = gd_deal_piece(data, rank), low_bits = data / width;
  list mine = list_of(b, rank, tensor, piece, piece + 1);
  begin(b, &mine);
  if (width > 1) {
    int32_t place = rank / low_bits, first = piece - place;
    for (int32_t g = 0; g < width; g++)
      b->lists[g] = g == place ? mine : list_of(b, g * low_bits + rank % low_bits, tensor, first + g, first + g + 1);
    mine = join(b, width, place);
  }
  for (int32_t bit = low_bits / 2; bit > 0; bit /= 2, width *= 2) {
    int32_t upper = rank & bit ? 1 : 0, other = upper ? mine.first - width : mine.first + width;
    b->lists[upper] = mine;
    b->lists[!upper] = list_of(b, rank ^ bit, tensor, other, other + width);
    mine = join(b, 2, upper);
  }
  for (int32_t t = 0; t < tensor_ranks; t++) b->lists[t] = t == tensor ? mine : list_of(b, t, t, 0, data);
  gd_norm_stage *last = &b->out->stage[b->out->stages++];
  *last = (gd_norm_stage){.axis = GD_AXIS_TENSOR};
  swap_lists(b, last, tensor_ranks, tensor);
  sum_lists(b, last, tensor_ranks, NULL);
  b->out->roots = last->first_node;
}

gd_status gd_norm_table_create(const gd_layout *layout, gd_norm_table *out) {
  builder b = {.layout = layout, .out = out};
  memset(out, 0, sizeof *out);
  gd_norm_count(layout, &out->size);
  out->units = (int32_t)gd_layout_piece_units(layout);
  int32_t most = odd_part(layout->mesh.size[GD_AXIS_DATA]), tensor_ranks = layout->mesh.size[GD_AXIS_TENSOR];
  if (most < 2) most = 2;
  if (most < tensor_ranks) most = tensor_ranks;
  out->message = calloc((size_t)(out->size.data_messages + out->size.tensor_messages) + 1, sizeof *out->message);
  out->index = calloc((size_t)out->size.indices, sizeof *out->index);
  b.lists = calloc((size_t)most, sizeof *b.lists);
  b.names = calloc((size_t)layout->parameter_count, sizeof *b.names);
  gd_status status = GD_OK;
  if (out->message && out->index && b.lists && b.names) {
    int32_t count = 0;
    for (int32_t i = 0; i < layout->parameter_count; i++)
      if (layout->parameters[i].trained) b.names[count++] = i;
    qsort_r(b.names, (size_t)count, sizeof *b.names, by_name, layout->parameters);
    build(&b);
  } else {
    gd_norm_table_free(out);
    status = gd_fail(GD_NO_MEMORY, "no memory for the stages of the gradient norm");
  }
  free(b.lists), free(b.names);
  return status;
}

void gd_norm_table_free(gd_norm_table *table) {
  free(table->message);
  free(table->index);
  memset(table, 0, sizeof *table);
}
