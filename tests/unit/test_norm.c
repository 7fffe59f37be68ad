/* The gradient norm's nodes: whatever the ranks, every rank ends with the tree over all units of every parameter, in name
 * order, by messages that both ends know, of which no more is sent, received or kept than was counted. */
#include "kernels_common.h"
#include "shard/deal.h"
#include "shard/norm.h"
#include "shard/tree.h"
#include "tests/small_spec.h"

enum { MOST_DATA = 64, MOST_TENSOR = 4, MOST_PARAMETERS = 160, BLOCKS = 4 };

static uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

/* The sum of a unit: sizes so far apart that a double shows the association. */
static float unit_value(int64_t parameter, int64_t leaf) {
  uint64_t word = mixed(mixed((uint64_t)parameter + 1) + (uint64_t)leaf);
  return ldexpf(1.0f + (float)(word >> 44) * 0x1p-20f, (int)(word % 100) - 50);
}

static double tree_by_definition(int64_t parameter, int64_t first, int64_t n) {
  if (n == 1) return (double)unit_value(parameter, first);
  int64_t half = 1;
  while (2 * half < n) half *= 2;
  return tree_by_definition(parameter, first, half) + tree_by_definition(parameter, first + half, n - half);
}

typedef struct rank_state {
  gd_layout layout;
  gd_norm_table table;
  float *units;
  double *nodes; /* NaN: not written */
  int64_t data_nodes, tensor_nodes;
} rank_state;

static rank_state ranks[MOST_DATA * MOST_TENSOR];

/* Where each trained parameter of the layout at hand stands in name order; the same on every rank. */
static int32_t place_in_names[MOST_PARAMETERS];

static void order_names(const gd_layout *layout) {
  assert_true(layout->parameter_count <= MOST_PARAMETERS);
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    place_in_names[i] = 0;
    for (int32_t k = 0; k < layout->parameter_count; k++)
      place_in_names[i] += layout->parameters[k].trained && strcmp(layout->parameters[k].name, layout->parameters[i].name) < 0;
  }
}

/* Sums of the units of a rank's pieces. NaN where nobody may look: behind the parameters of a bucket, and, on all tensor ranks
 * but the first, what all of them have. */
static void fill_units(rank_state *r) {
  const gd_layout *layout = &r->layout;
  int64_t before = 0;
  for (int64_t i = 0; i < r->table.units; i++) r->units[i] = NAN;
  for (int32_t b = 0; b < layout->bucket_count; b++) {
    gd_range piece = gd_layout_piece(layout, b, layout->coordinates[GD_AXIS_DATA]);
    if (!layout->buckets[b].trained) continue;
    for (int32_t i = 0; i < layout->parameter_count; i++) {
      const gd_parameter *p = &layout->parameters[i];
      if (p->bucket != b || (p->cut == GD_CUT_NONE && layout->coordinates[GD_AXIS_TENSOR] > 0)) continue;
      for (int64_t at = 0; at < p->blocks * p->block_elems; at += GD_UNIT_ELEMS) {
        int64_t inside = p->offset + at - piece.offset;
        if (inside < 0 || inside >= piece.elements) continue;
        r->units[before + inside / GD_UNIT_ELEMS] =
            unit_value(place_in_names[i], (p->first_block * p->block_elems + at) / GD_UNIT_ELEMS);
      }
    }
    before += piece.elements / GD_UNIT_ELEMS;
  }
  assert_int_equal(before, r->table.units);
}

static void open_rank(rank_state *r, const gd_spec *spec, const gd_mesh *mesh, int32_t rank) {
  gd_norm_size size;
  assert_int_equal(gd_layout_create(spec, mesh, rank, &r->layout), GD_OK);
  if (rank == 0) order_names(&r->layout);
  assert_int_equal(gd_norm_table_create(&r->layout, &r->table), GD_OK);
  gd_norm_count(&r->layout, &size);
  assert_memory_equal(&size, &r->table.size, sizeof size);
  r->units = calloc((size_t)r->table.units, sizeof *r->units);
  r->nodes = calloc((size_t)size.nodes, sizeof *r->nodes);
  for (int64_t i = 0; i < size.nodes; i++) r->nodes[i] = NAN;
  r->data_nodes = r->tensor_nodes = 0;
  fill_units(r);
}

static void close_rank(rank_state *r) {
  free(r->units), free(r->nodes);
  gd_norm_table_free(&r->table);
  gd_layout_free(&r->layout);
}

static void begin(gd_kernels *kernels, rank_state *r) {
  const gd_norm_table *t = &r->table;
  gd_unit_nodes made = {.nodes = t->my_nodes, .units = t->units, .sums = r->units, .out = r->nodes};
  made.first = t->index + t->unit_first;
  made.count = t->index + t->unit_count;
  assert_int_equal(kernels->ops->unit_nodes(kernels, &made), GD_OK);
}

/* What `from` sends in the stage goes to where the peer expects it from there. */
static void deliver(const gd_mesh *mesh, int32_t from, int32_t number) {
  rank_state *sender = &ranks[from];
  const gd_norm_stage *stage = &sender->table.stage[number];
  for (int32_t i = 0; i < stage->messages; i++) {
    const gd_norm_message *m = &sender->table.message[stage->first_message + i], *w = NULL;
    if (!m->send) continue;
    int32_t coordinates[GD_AXES], matches = 0;
    memcpy(coordinates, sender->layout.coordinates, sizeof coordinates);
    int32_t me = coordinates[stage->axis];
    assert_int_not_equal(m->peer, me);
    coordinates[stage->axis] = m->peer;
    rank_state *receiver = &ranks[gd_mesh_rank(mesh, coordinates)];
    const gd_norm_stage *theirs = &receiver->table.stage[number];
    assert_int_equal(theirs->axis, stage->axis);
    for (int32_t k = 0; k < theirs->messages; k++) {
      const gd_norm_message *candidate = &receiver->table.message[theirs->first_message + k];
      if (candidate->send || candidate->peer != me) continue;
      w = candidate;
      matches++;
    }
    assert_int_equal(matches, 1);
    assert_int_equal(w->nodes, m->nodes);
    for (int32_t k = 0; k < m->nodes; k++) {
      assert_true(!isnan(sender->nodes[m->first_node + k]));
      assert_true(isnan(receiver->nodes[w->first_node + k])); /* nothing is overwritten */
      receiver->nodes[w->first_node + k] = sender->nodes[m->first_node + k];
    }
    *(stage->axis == GD_AXIS_DATA ? &sender->data_nodes : &sender->tensor_nodes) += m->nodes;
  }
}

static void add(gd_kernels *kernels, rank_state *r, int32_t number) {
  const gd_norm_table *t = &r->table;
  const gd_norm_stage *stage = &t->stage[number];
  gd_node_sums sums = {.sums = stage->sums, .parts = stage->parts, .nodes = r->nodes};
  sums.first = t->index + stage->first;
  sums.from = t->index + stage->from;
  sums.leaf = t->index + stage->leaf;
  sums.out = r->nodes + stage->first_node;
  assert_int_equal(sums.first[0], 0);
  assert_int_equal(sums.first[sums.sums], sums.parts);
  for (int32_t i = 0; i < stage->sums; i++) {
    assert_true(sums.first[i] < sums.first[i + 1]);
    assert_true(isnan(sums.out[i]));
  }
  for (int32_t k = 0; k < stage->parts; k++) assert_in_range(sums.from[k], 0, stage->first_node - 1);
  assert_int_equal(kernels->ops->node_sums(kernels, &sums), GD_OK);
  for (int32_t i = 0; i < stage->sums; i++) assert_true(!isnan(sums.out[i]));
}

static void check_end(const rank_state *r, const double *roots, const char *where) {
  const gd_norm_table *t = &r->table;
  const gd_norm_stage *last = &t->stage[t->stages - 1];
  assert_int_equal(t->roots, last->first_node);
  for (int32_t k = 0; k < t->size.parameters; k++)
    if (!(r->nodes[t->roots + k] == roots[k])) fail_msg("%s: rank %d, parameter %d is no tree", where, r->layout.rank, k);
  /* What was counted, and no more. */
  assert_int_equal(t->roots + last->sums, t->size.nodes);
  assert_int_equal(last->leaf + last->parts, t->size.indices);
  assert_int_equal(last->first_message + last->messages, t->size.data_messages + t->size.tensor_messages);
  assert_int_equal(last->messages, t->size.tensor_messages);
  assert_int_equal(r->data_nodes, t->size.data_nodes);
  assert_int_equal(r->tensor_nodes, t->size.tensor_nodes);
}

static void check(gd_kernels *kernels, gd_spec spec, int32_t data, int32_t tensors) {
  gd_mesh mesh;
  char where[64];
  static double roots[MOST_PARAMETERS];
  int32_t power = 1, log2 = 0, all = data * tensors;
  for (; data % (2 * power) == 0; power *= 2) log2++;
  spec.parallel.tensor = tensors;
  spec.batch.global = data;
  snprintf(where, sizeof where, "%s, data %d, tensor %d", spec.model.bias ? "gpt" : "llama", data, tensors);
  assert_int_equal(gd_spec_resolve(&spec, all), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, all, tensors, 1, 1), GD_OK);
  for (int32_t r = 0; r < all; r++) {
    open_rank(&ranks[r], &spec, &mesh, r);
    begin(kernels, &ranks[r]);
    assert_int_equal(ranks[r].table.stages, (data > power) + log2 + 1);
  }
  for (int32_t stage = 0; stage < ranks[0].table.stages; stage++) {
    for (int32_t r = 0; r < all; r++) deliver(&mesh, r, stage);
    for (int32_t r = 0; r < all; r++) add(kernels, &ranks[r], stage);
  }
  const gd_layout *layout = &ranks[0].layout;
  for (int32_t i = 0; i < layout->parameter_count; i++) {
    const gd_parameter *p = &layout->parameters[i];
    if (p->trained)
      roots[place_in_names[i]] = tree_by_definition(place_in_names[i], 0, p->all_blocks * p->block_elems / GD_UNIT_ELEMS);
  }
  for (int32_t r = 0; r < all; r++) {
    check_end(&ranks[r], roots, where);
    close_rank(&ranks[r]);
  }
}

static gd_spec spec_of(bool llama, int32_t layers, int32_t width, int32_t vocabulary) {
  gd_spec spec = small_spec(llama, 0, 0);
  spec.model.layers = layers;
  spec.model.width = width;
  spec.model.vocabulary = vocabulary;
  spec.parallel.blocks = BLOCKS;
  spec.batch.global = 0;
  return spec;
}

static void all_layouts(const gd_spec *spec) {
  gd_kernels kernels = open_best(1);
  for (int32_t data = 1; data <= MOST_DATA; data++)
    for (int32_t tensors = 1; tensors <= MOST_TENSOR; tensors *= 2) check(&kernels, *spec, data, tensors);
  gd_kernels_close(&kernels);
}

/* Some parameters of several pieces, others in one together. */
static void every_rank_ends_with_the_tree_over_all_units(void **state) {
  (void)state;
  gd_spec spec = spec_of(false, 2, 96, 1500);
  all_layouts(&spec);
}
static void without_biases_and_a_tied_head(void **state) {
  (void)state;
  gd_spec spec = spec_of(true, 1, 128, 3000);
  all_layouts(&spec);
}
/* A unit a parameter, so that most pieces are empty; "layers.10" is before "layers.2". */
static void where_most_ranks_hold_nothing(void **state) {
  (void)state;
  gd_spec spec = spec_of(false, 11, 16, 61);
  all_layouts(&spec);
}

/* What is frozen has no unit, no node and no root. */
static void where_a_part_is_frozen(void **state) {
  (void)state;
  for (int part = 0; part < TRAINED_PARTS; part++) {
    bool llama = trained_parts[part].llama;
    gd_spec spec = spec_of(llama, 2, 96, 1500);
    (void)train_part(&spec, part, llama);
    gd_kernels kernels = open_best(1);
    for (int32_t data = 1; data <= 12; data++)
      for (int32_t tensors = 1; tensors <= MOST_TENSOR; tensors *= 2) check(&kernels, spec, data, tensors);
    gd_kernels_close(&kernels);
  }
}

static void lists_stay_short(void **state) {
  (void)state;
  gd_spec spec = spec_of(false, 2, 96, 1500);
  gd_mesh mesh;
  gd_layout layout;
  gd_norm_size size;
  spec.parallel.tensor = 1;
  spec.batch.global = 64;
  assert_int_equal(gd_spec_resolve(&spec, 64), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, 64, 1, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(&spec, &mesh, 5, &layout), GD_OK);
  gd_norm_count(&layout, &size);
  assert_int_equal(size.data_messages, 2 * 6);
  assert_int_equal(size.tensor_messages, 0);
  /* Six lists of a few nodes a parameter, where every unit went to everyone. */
  assert_in_range(size.data_nodes, 1, 6 * 4 * layout.parameter_count);
  assert_true(63 * gd_layout_piece_units(&layout) > 8 * size.data_nodes);
  gd_layout_free(&layout);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(every_rank_ends_with_the_tree_over_all_units, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(without_biases_and_a_tied_head, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(where_most_ranks_hold_nothing, open_test_device, close_test_device),
      cmocka_unit_test_setup_teardown(where_a_part_is_frozen, open_test_device, close_test_device),
      cmocka_unit_test(lists_stay_short),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
