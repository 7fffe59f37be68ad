/* The layout: every element has one owner, blocks start at units, activations do not overlap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/cost.h"
#include "shard/layout.h"
#include "shard/memory.h"
#include "shard/trained.h"
#include "tests/small_spec.h"

/* Marks the elements of all ranks' saved boxes in per-tensor maps; every element must be saved exactly once. */
static void check_saved_once(const gd_spec *spec, const gd_mesh *mesh) {
  uint8_t *maps[64] = {0};
  int64_t total = 0;
  for (int32_t rank = 0; rank < mesh->ranks; rank++) {
    gd_layout layout;
    gd_owned_box *boxes;
    int32_t count;
    assert_int_equal(gd_layout_create(spec, mesh, rank, &layout), GD_OK);
    assert_int_equal(gd_layout_owned(&layout, GD_OWN_SAVED, &boxes, &count), GD_OK);
    for (int32_t i = 0; i < count; i++) {
      const gd_tensor *t = &layout.tensors[boxes[i].tensor];
      uint8_t **map = &maps[boxes[i].tensor];
      if (!*map) *map = calloc((size_t)(t->rows * t->cols), 1);
      for (int64_t r = 0; r < boxes[i].box.rows; r++)
        for (int64_t c = 0; c < boxes[i].box.cols; c++)
          assert_int_equal((*map)[(boxes[i].box.row + r) * t->cols + boxes[i].box.col + c]++, 0);
      total += gd_box_elements(boxes[i].box);
    }
    free(boxes);
    gd_layout_free(&layout);
  }
  assert_int_equal(total, gd_spec_parameters(spec));
  for (int i = 0; i < 64; i++) free(maps[i]);
}

static void each_element_is_saved_once(void **state) {
  (void)state;
  for (int llama = 0; llama < 2; llama++)
    for (int32_t ranks = 1; ranks <= 12; ranks++)
      for (int32_t tensor = 1; tensor <= 4; tensor *= 2)
        for (int32_t stages = 1; stages <= 3; stages++)
          for (int32_t zero = 0; zero < 2; zero++) {
            if (ranks % (tensor * stages) || 24 % (ranks / tensor / stages)) continue;
            gd_spec spec = small_spec(llama, tensor, zero);
            gd_mesh mesh;
            assert_int_equal(gd_spec_resolve(&spec, ranks / stages), GD_OK);
            assert_int_equal(gd_mesh_init(&mesh, ranks, tensor, stages, 1), GD_OK);
            check_saved_once(&spec, &mesh);
          }
}

/* Every rank knows all buckets, and has memory for those of its stage: over the stages each once. */
static void ranks_know_the_whole_model_and_hold_their_stage(void **state) {
  (void)state;
  for (int llama = 0; llama < 2; llama++)
    for (int32_t stages = 1; stages <= 3; stages++) {
      gd_spec spec = small_spec(llama, 2, 1);
      gd_mesh mesh, flat;
      gd_layout layout, whole;
      int64_t arena = 0, gradients = 0, state_elems = 0;
      assert_int_equal(gd_spec_resolve(&spec, 4), GD_OK);
      assert_int_equal(gd_mesh_init(&flat, 4, 2, 1, 1), GD_OK);
      assert_int_equal(gd_mesh_init(&mesh, 4 * stages, 2, stages, 1), GD_OK);
      assert_int_equal(gd_layout_create(&spec, &flat, 0, &whole), GD_OK);
      for (int32_t rank = 0; rank < mesh.ranks; rank += 4) {
        assert_int_equal(gd_layout_create(&spec, &mesh, rank, &layout), GD_OK);
        assert_int_equal(layout.gradient_bucket_count, whole.gradient_bucket_count);
        assert_int_equal(layout.parameter_count, whole.parameter_count);
        assert_int_equal(layout.tensor_count, whole.tensor_count);
        for (int32_t i = 0; i < layout.gradient_bucket_count; i++) {
          const gd_bucket *b = &layout.buckets[i];
          bool here = b->stage == layout.coordinates[GD_AXIS_PIPELINE];
          assert_string_equal(b->name, whole.buckets[i].name);
          assert_int_equal(b->elements, whole.buckets[i].elements);
          assert_int_equal(b->axes, GD_MASK_DATA);
          assert_int_equal(b->gradient_offset >= 0, here);
          assert_int_equal(b->offset >= 0, here && i < layout.bucket_count);
          assert_int_equal(b->state_offset >= 0, here && i < layout.bucket_count);
          if (b->layer == layout.shape.layers) assert_int_equal(b->stage, stages - 1);
          if (b->layer == 0) assert_int_equal(b->stage, 0);
        }
        for (int32_t i = 0; i < layout.segment_count; i++)
          assert_true(layout.buckets[layout.parameters[layout.segments[i].parameter].bucket].offset >= 0);
        arena += layout.arena_elems;
        gradients += layout.gradient_elems;
        state_elems += layout.state_elems;
        gd_layout_free(&layout);
      }
      assert_int_equal(arena, whole.arena_elems);
      assert_int_equal(gradients, whole.gradient_elems);
      assert_int_equal(state_elems, whole.state_elems);
      gd_layout_free(&whole);
    }
}

static void blocks_start_at_units_and_pieces_are_even(void **state) {
  (void)state;
  gd_spec spec = small_spec(false, 2, 1);
  gd_mesh mesh;
  gd_layout layout;
  assert_int_equal(gd_spec_resolve(&spec, 6), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, 6, 2, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(&spec, &mesh, 3, &layout), GD_OK);
  for (int32_t i = 0; i < layout.parameter_count; i++) {
    assert_int_equal(layout.parameters[i].offset % GD_UNIT_ELEMS, 0);
    assert_int_equal(layout.parameters[i].block_elems % GD_UNIT_ELEMS, 0);
  }
  int64_t at = 0;
  for (int32_t i = 0; i < layout.bucket_count; i++) {
    assert_int_equal(layout.buckets[i].offset, at);
    assert_int_equal(layout.buckets[i].piece * 3, layout.buckets[i].elements);
    assert_int_equal(layout.buckets[i].piece % GD_UNIT_ELEMS, 0);
    at += layout.buckets[i].elements;
  }
  assert_int_equal(at, layout.arena_elems);
  gd_layout_free(&layout);
}

/* Workspace that only one layer's backward uses, and workspace that only the head uses: these two may share bytes. */
static bool of_a_layer(int id) {
  return id == GD_W_DQKV || id == GD_W_DATTENTION || id == GD_W_DELTA || id == GD_W_DUP || id == GD_W_DACTIVATED ||
         (id >= GD_A_NORM1 && id <= GD_A_ACTIVATED); /* where no layer keeps its own */
}
static bool of_the_head(int id) {
  return id == GD_W_LOGITS || id == GD_W_ROW_MAX || id == GD_W_BLOCK_SUM || id == GD_W_BLOCK_TARGET || id == GD_W_ROW_SUM ||
         id == GD_W_ROW_TARGET || id == GD_W_ROW_LOSS || id == GD_W_HEAD_SUMS;
}

static int64_t end_of(const gd_activation_entry *e) {
  return e->offset + (e->copies - 1) * e->stride + e->elements * (int64_t)gd_dtype_bytes(e->dtype);
}

static void check_overlaps(const gd_activations *a) {
  for (int i = 0; i < GD_ACTIVATION_IDS; i++) {
    const gd_activation_entry *e = &a->entries[i];
    if (!e->name) continue;
    assert_int_equal(e->offset % 256, 0);
    assert_true(e->offset >= 0 && end_of(e) <= (gd_lifetime_is_kept(e->lifetime) ? a->slot_bytes : a->workspace_bytes));
    if (e->copies > 1) assert_true(e->stride >= e->elements * (int64_t)gd_dtype_bytes(e->dtype));
    for (int k = 0; k < i; k++) {
      const gd_activation_entry *other = &a->entries[k];
      if (!other->name || gd_lifetime_is_kept(other->lifetime) != gd_lifetime_is_kept(e->lifetime)) continue;
      if ((of_a_layer(i) && of_the_head(k)) || (of_the_head(i) && of_a_layer(k))) continue;
      if (e->offset < end_of(other) && other->offset < end_of(e)) fail_msg("%s and %s overlap", other->name, e->name);
    }
  }
}

static void activations_that_live_together_do_not_overlap(void **state) {
  (void)state;
  for (int llama = 0; llama < 2; llama++)
    for (int32_t tensor = 1; tensor <= 2; tensor++)
      for (int bfloat16 = 0; bfloat16 < 2; bfloat16++)
        for (int backward = 0; backward < 2; backward++) {
          gd_spec spec = small_spec(llama, tensor, 0);
          gd_mesh mesh;
          gd_layout layout;
          gd_activations a;
          spec.precision.dtype = bfloat16 ? GD_BFLOAT16 : GD_FLOAT32;
          assert_int_equal(gd_spec_resolve(&spec, tensor), GD_OK);
          assert_int_equal(gd_mesh_init(&mesh, tensor, tensor, 1, 1), GD_OK);
          assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_OK);
          gd_layout_activations(&layout, 3, backward, 0, &a);
          check_overlaps(&a);
          gd_layout_free(&layout);
        }
}

/* ---- a part of the model learns ---- */

static void check_frozen_buckets(const gd_layout *layout, const char *where) {
  int64_t gradients = 0, state = 0, trained = 0, units = 0, all_units = 0;
  for (int32_t i = 0; i < layout->bucket_count; i++) {
    const gd_bucket *b = &layout->buckets[i];
    bool tied = i == 0 && b->trained && layout->tied_head_bucket >= 0;
    if (b->offset < 0 || (b->gradient_offset >= 0) != b->trained || (b->state_offset >= 0) != b->trained)
      fail_msg("%s: where %s lies", where, b->name);
    all_units += b->piece / GD_UNIT_ELEMS;
    if (!b->trained) continue;
    gradients += b->elements * (tied ? 2 : 1);
    state += gd_layout_updated(layout, i).elements;
    units += b->piece / GD_UNIT_ELEMS;
  }
  assert_int_equal(layout->gradient_elems, gradients);
  assert_int_equal(layout->state_elems, state);
  assert_int_equal(gd_layout_piece_units(layout), units);
  assert_int_equal(gd_layout_saved_units(layout), all_units);
  for (int32_t i = 0; i < layout->parameter_count; i++)
    assert_int_equal(layout->parameters[i].trained, layout->buckets[layout->parameters[i].bucket].trained);
  for (int32_t i = 0; i < layout->segment_count; i++) {
    const gd_segment *s = &layout->segments[i], *before = s - 1;
    const gd_tensor *tensor = &layout->tensors[s->tensor];
    int32_t bucket = layout->parameters[s->parameter].bucket;
    assert_int_equal(tensor->frozen, !layout->buckets[bucket].trained);
    if (tensor->frozen == gd_trained(&layout->spec, tensor->name)) fail_msg("%s: %s", where, tensor->name);
    if (i == 0) continue;
    int32_t last = layout->parameters[before->parameter].bucket;
    assert_true(last < bucket || (last == bucket && before->offset < s->offset));
  }
  for (int32_t i = 0; i < layout->tensor_count; i++)
    if (!layout->tensors[i].frozen) trained += layout->tensors[i].rows * layout->tensors[i].cols;
  assert_int_equal(layout->trained_elements, trained);
}

/* Below the lowest layer that learns nothing is kept: its copies are those of the layers from there on. */
static void check_kept(const gd_layout *layout, int32_t lowest) {
  gd_activations a;
  int32_t layers = layout->shape.layers;
  gd_layout_activations(layout, 2, true, 0, &a);
  check_overlaps(&a);
  assert_int_equal(a.entries[GD_A_RESIDUAL].copies, layers - lowest + 1);
  for (int id = GD_A_NORM1; id <= GD_A_ACTIVATED; id++) {
    const gd_activation_entry *e = &a.entries[id];
    bool kept = gd_lifetime_is_kept(e->lifetime);
    if (lowest == layers) assert_false(kept);
    if (kept) assert_int_equal(e->copies, layers - e->first_layer);
    if (kept) assert_true(e->first_layer >= lowest);
  }
  if (lowest < layers) assert_int_equal(a.entries[GD_A_QKV].copies, layers - lowest);
  for (int id = GD_W_DQKV; id <= GD_W_DACTIVATED; id++) assert_true((a.entries[id].elements > 0) == (lowest < layers));
  assert_true((a.entries[GD_W_DRESIDUAL].elements > 0) == layout->head_goes_back);
}

static void what_is_frozen_has_weights_alone(void **state) {
  (void)state;
  for (int part = 0; part < TRAINED_PARTS; part++)
    for (int variant = 0; variant < 16; variant++) {
      bool llama = variant & 1;
      int32_t tensor = variant & 2 ? 2 : 1, data = variant & 4 ? 3 : 1;
      gd_spec spec = small_spec(llama, tensor, variant & 8 ? 1 : 0);
      gd_mesh mesh;
      gd_layout layout;
      char where[128];
      snprintf(where, sizeof where, "%s, variant %d", trained_parts[part].patterns[0], variant);
      if (!train_part(&spec, part, llama)) continue;
      assert_int_equal(gd_spec_resolve(&spec, tensor * data), GD_OK);
      assert_int_equal(gd_mesh_init(&mesh, tensor * data, tensor, 1, 1), GD_OK);
      check_saved_once(&spec, &mesh);
      for (int32_t rank = 0; rank < mesh.ranks; rank++) {
        gd_owned_box *boxes;
        int32_t count, lowest = trained_parts[part].lowest;
        if (gd_layout_create(&spec, &mesh, rank, &layout) != GD_OK) fail_msg("%s: %s", where, gd_error_text());
        check_frozen_buckets(&layout, where);
        if (lowest < 0) lowest = layout.shape.layers;
        assert_int_equal(layout.lowest_layer, lowest);
        check_kept(&layout, lowest);
        assert_int_equal(gd_layout_owned(&layout, GD_OWN_STATE, &boxes, &count), GD_OK);
        for (int32_t i = 0; i < count; i++) assert_false(layout.tensors[boxes[i].tensor].frozen);
        free(boxes);
        gd_layout_free(&layout);
      }
    }
}

/* The last pattern that matches counts. */
static void factors_of_the_learning_rate(void **state) {
  (void)state;
  gd_spec spec = small_spec(false, 1, 0);
  gd_mesh mesh;
  gd_layout layout;
  scale_also(&spec, "*.bias", 2);
  scale_also(&spec, "layers.1.*", 0.5f);
  scale_also(&spec, "layers.1.mlp.up.bias", 0);
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_OK);
  const struct {
    const char *name;
    float factor;
  } expected[] = {{"layers.0.mlp.up.weight", 1},    {"layers.0.attention.qkv.bias", 2},
                  {"layers.1.mlp.down.bias", 0.5f}, {"layers.1.mlp.up.bias", 0},
                  {"final_norm.bias", 2},           {"token_embedding.weight", 1}};
  for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
    int32_t found = 0;
    for (int32_t i = 0; i < layout.parameter_count; i++) {
      if (strcmp(layout.parameters[i].name, expected[k].name) != 0) continue;
      if (layout.parameters[i].lr_scale != expected[k].factor) fail_msg("%s", expected[k].name);
      found++;
    }
    assert_int_equal(found, 1);
  }
  gd_layout_free(&layout);
}

static void refuses(const gd_spec *spec, const char *text) {
  gd_mesh mesh;
  gd_layout layout;
  gd_spec resolved = *spec;
  assert_int_equal(gd_spec_resolve(&resolved, 1), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(&resolved, &mesh, 0, &layout), GD_USAGE);
  assert_string_equal(gd_error_text(), text);
}

static void patterns_that_mean_nothing_say_what_there_is(void **state) {
  (void)state;
  gd_spec llama = small_spec(true, 1, 0), spec = llama;
  train_also(&spec, "layers.2.*");
  refuses(&spec,
          "finetune.train: \"layers.2.*\" matches no tensor of this model, which has final_norm.weight, head.weight, "
          "layers.N.attention.key.weight, layers.N.attention.projection.weight, layers.N.attention.query.weight, "
          "layers.N.attention.value.weight, layers.N.mlp.down.weight, layers.N.mlp.gate.weight, layers.N.mlp.up.weight, "
          "layers.N.norm1.weight, layers.N.norm2.weight, token_embedding.weight (N: 0 to 1)");
  spec = llama;
  train_also(&spec, "top:3");
  refuses(&spec, "finetune.train: found \"top:3\", expected top:1 to top:2, as many layers as there are");
  static const char *const tops[] = {"top:0", "top:", "top:-1", "top:x", "top:99999999999"};
  for (size_t i = 0; i < sizeof tops / sizeof *tops; i++) {
    char text[128];
    spec = llama;
    train_also(&spec, tops[i]);
    snprintf(text, sizeof text, "finetune.train: found \"%s\", expected top:1 to top:2, as many layers as there are", tops[i]);
    refuses(&spec, text);
  }
  spec = llama;
  train_also(&spec, "*.attention.query.*");
  refuses(&spec,
          "finetune.train: tells layers.0.attention.query.weight from layers.0.attention.key.weight, which lie in one block of "
          "memory: name both or neither");
  spec = llama;
  scale_also(&spec, "layers.1.mlp.up.weight", 2);
  refuses(&spec,
          "optimizer.lr_scale: tells layers.1.mlp.gate.weight from layers.1.mlp.up.weight, which lie in one block of memory: "
          "name both or neither");
  static const char *const words[] = {"head", "all", "top:1", "top:x"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    char text[256];
    spec = llama;
    scale_also(&spec, words[i], 2);
    snprintf(text, sizeof text,
             "optimizer.lr_scale: found \"%s\", a word of finetune.train alone, expected the name of tensors, with * in it for "
             "several: \"final_norm.*\"; \"*\" is all",
             words[i]);
    refuses(&spec, text);
  }
  spec = llama;
  scale_also(&spec, "classifier.*", 2);
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_OK);
  gd_mesh mesh;
  gd_layout layout;
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "optimizer.lr_scale: \"classifier.*\" matches no tensor of this model"));
}

/* A factor without an effect is told, one that has an effect somewhere is taken. */
static void factors_are_of_what_learns(void **state) {
  (void)state;
  gd_spec llama = small_spec(true, 1, 0), spec;
  gd_mesh mesh;
  gd_layout layout;
  static const struct {
    const char *pattern, *refused; /* naming the last tensor that it matches */
  } factors[] = {
      {"*", 0}, {"layers.*", 0}, {"*.norm?.*", 0}, {"layers.0.*", "layers.0.norm2.weight"}, {"head.*", "head.weight"}};
  train_also(&llama, "layers.1.*");
  assert_int_equal(gd_mesh_init(&mesh, 1, 1, 1, 1), GD_OK);
  for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
    char text[256];
    spec = llama;
    scale_also(&spec, factors[i].pattern, 2);
    snprintf(
        text, sizeof text,
        "optimizer.lr_scale: \"%s\" would change nothing: all that it matches is frozen by finetune.train, as %s is; take it "
        "out, or let what it names learn",
        factors[i].pattern, factors[i].refused ? factors[i].refused : "");
    if (factors[i].refused) {
      refuses(&spec, text);
      continue;
    }
    assert_int_equal(gd_spec_resolve(&spec, 1), GD_OK);
    if (gd_layout_create(&spec, &mesh, 0, &layout) != GD_OK) fail_msg("%s: %s", factors[i].pattern, gd_error_text());
    gd_layout_free(&layout);
  }
  /* Query is told from key where both learn, and not where neither does. */
  spec = llama;
  scale_also(&spec, "*.attention.query.*", 2);
  refuses(
      &spec,
      "optimizer.lr_scale: tells layers.1.attention.query.weight from layers.1.attention.key.weight, which lie in one block of "
      "memory: name both or neither");
  spec = small_spec(true, 1, 0);
  train_also(&spec, "*.mlp.*");
  scale_also(&spec, "*.[dgqu]*.weight", 2); /* query beside gate, up and down */
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_OK);
  if (gd_layout_create(&spec, &mesh, 0, &layout) != GD_OK) fail_msg("%s", gd_error_text());
  gd_layout_free(&layout);
}

static gd_activations of_strips(const gd_layout *layout, int64_t head_rows) {
  gd_activations a;
  gd_layout_activations(layout, layout->spec.batch.micro, true, head_rows, &a);
  check_overlaps(&a);
  assert_int_equal(a.entries[GD_W_LOGITS].elements, layout->shape.blocks * a.head_rows * layout->shape.block_vocabulary);
  return a;
}

/* No strip that could be chosen takes less; of those that take the same, none makes fewer strips. */
static void check_strips(const gd_layout *layout) {
  gd_activations chosen = of_strips(layout, 0), other;
  bool invariant = layout->spec.numerics == GD_NUMERICS_INVARIANT;
  int64_t first = invariant ? layout->shape.time_block : 256, rows = chosen.rows;
  int64_t strips = (rows + chosen.head_rows - 1) / chosen.head_rows;
  if (rows <= 1024) assert_int_equal(chosen.head_rows, rows);
  for (int64_t candidate = first; candidate <= rows; candidate += invariant ? candidate : 256) {
    if (candidate < 1024) continue;
    other = of_strips(layout, candidate);
    assert_true(chosen.workspace_bytes <= other.workspace_bytes);
    if (chosen.workspace_bytes == other.workspace_bytes) assert_true((rows + candidate - 1) / candidate >= strips);
  }
}

static void the_head_takes_strips_that_need_least(void **state) {
  (void)state;
  static const int32_t vocabularies[] = {61, 5000, 50257}, widths[] = {32, 768}, micros[] = {1, 3, 32};
  for (int v = 0; v < 3; v++)
    for (int w = 0; w < 2; w++)
      for (int m = 0; m < 3; m++)
        for (int variant = 0; variant < 16; variant++) {
          int32_t tensor = variant & 1 ? 2 : 1;
          gd_spec spec = small_spec(variant & 2, tensor, 0);
          gd_mesh mesh;
          gd_layout layout;
          spec.numerics = variant & 4 ? GD_NUMERICS_INVARIANT : GD_NUMERICS_FAST;
          spec.precision.dtype = variant & 8 ? GD_BFLOAT16 : GD_FLOAT32;
          spec.model.width = widths[w];
          spec.model.vocabulary = vocabularies[v];
          spec.model.context = 1024;
          spec.batch.micro = micros[m];
          spec.batch.global = 96;
          assert_int_equal(gd_spec_resolve(&spec, tensor), GD_OK);
          assert_int_equal(gd_mesh_init(&mesh, tensor, tensor, 1, 1), GD_OK);
          assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_OK);
          check_strips(&layout);
          gd_layout_free(&layout);
        }
}

static void contradictions_name_their_keys(void **state) {
  (void)state;
  gd_spec spec = small_spec(false, 3, 0);
  assert_int_equal(gd_spec_resolve(&spec, 4), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "parallel.tensor"));
  spec = small_spec(false, 1, 0);
  assert_int_equal(gd_spec_resolve(&spec, 5), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "batch.global"));
  spec = small_spec(false, 1, 0);
  spec.model.heads = 5;
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "model.heads"));
  spec = small_spec(false, 1, 0);
  spec.batch.sequence = 17;
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "model.context"));
  spec = small_spec(false, 1, 0);
  spec.model.head_size = 512;
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "model.head_size"));
  spec = small_spec(false, 1, 0);
  spec.batch.global = 20000;
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "batch.micro"));
  spec = small_spec(false, 1, 2);
  assert_int_equal(gd_spec_resolve(&spec, 1), GD_USAGE);
  assert_non_null(strstr(gd_error_text(), "parallel.zero"));
}

/* 15 sequences on 3 data ranks: [0, 5) holds 3 sums at once, [5, 10) 4: 5, 6-7, 8 and 9. */
static void the_plan_is_that_of_the_rank_which_needs_most(void **state) {
  (void)state;
  gd_spec spec = small_spec(false, 1, 1);
  gd_mesh mesh;
  gd_layout layout;
  gd_memory first[GD_MEMORY_IDS], most[GD_MEMORY_IDS];
  spec.batch.global = 15;
  spec.batch.micro = 1;
  assert_int_equal(gd_spec_resolve(&spec, 3), GD_OK);
  assert_int_equal(gd_mesh_init(&mesh, 3, 1, 1, 1), GD_OK);
  assert_int_equal(gd_layout_create(&spec, &mesh, 0, &layout), GD_OK);
  gd_memory_of_training(&layout, first);
  gd_memory_of_largest(&layout, most);
  assert_int_equal(first[GD_M_GRADIENTS].bytes, 3 * layout.gradient_elems * 4);
  assert_int_equal(most[GD_M_GRADIENTS].bytes, 4 * layout.gradient_elems * 4);
  gd_layout_free(&layout);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_element_is_saved_once),
      cmocka_unit_test(ranks_know_the_whole_model_and_hold_their_stage),
      cmocka_unit_test(blocks_start_at_units_and_pieces_are_even),
      cmocka_unit_test(activations_that_live_together_do_not_overlap),
      cmocka_unit_test(what_is_frozen_has_weights_alone),
      cmocka_unit_test(factors_of_the_learning_rate),
      cmocka_unit_test(patterns_that_mean_nothing_say_what_there_is),
      cmocka_unit_test(factors_are_of_what_learns),
      cmocka_unit_test(the_head_takes_strips_that_need_least),
      cmocka_unit_test(contradictions_name_their_keys),
      cmocka_unit_test(the_plan_is_that_of_the_rank_which_needs_most),
  };
  return cmocka_run_group_tests(tests, 0, 0);
}
