/* gemm.c - the matrix product: blocks of C, the chains and the two nested trees of each, and the split over threads.
 *
 * Each thread owns a rectangle of C and works alone: it packs what it needs, so there is nothing to wait for. Inside, C goes
 * block by block; where sums form a tree (or bfloat16 C takes several rounds of packing) the block's partial sums live in a
 * stack of tiles in scratch memory, else in C itself.
 */
#include "trainer/kernels/cpu/gemm.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/tree_stack.h"

enum {
  A_FLOATS = GEMM_GROUP * GEMM_MR * GEMM_AROW + 16,
  B_FLOATS = GEMM_NC * GEMM_KU + 16 * GEMM_NR,
  EDGE_FLOATS = GEMM_MR * GEMM_NR,
  TILE_LD = GEMM_NC + 16,
  SHORT_LEAF_ROWS = 192, /* rows of a block whose leaves are short: the tiles at work stay in the second-level cache */
  SHORT_LEAF_UNITS = 512,
  TILE_FLOATS = GD_CPU_SCRATCH_BYTES / 4 - A_FLOATS - B_FLOATS - EDGE_FLOATS,
};

typedef struct job {
  const gd_matmul *m;
  gemm_operand a, b;
  gemm_panel panel;
  int64_t inner;       /* inner leaves of an outer one */
  int64_t k_leaf;      /* elements of an inner leaf */
  bool tree;           /* more than one leaf in all */
  bool tiles;          /* partial sums live in tiles */
  int64_t slots, rows; /* tiles on the stack, rows of a block */
  float *a_pack, *b_pack, *edge, *tile;
} job;

/* A rectangle of C. */
typedef struct block {
  int64_t m, n, rows, columns;
} block;

static int64_t bit_length(int64_t x) {
  int64_t bits = 0;
  for (; x > 0; x >>= 1) bits++;
  return bits;
}

static int64_t at_most(int64_t x, int64_t limit) {
  return x < limit ? x : limit;
}

static float *slot(const job *j, int64_t index) {
  return j->tile + index * j->rows * TILE_LD;
}

/* Stores rows x columns of the edge buffer to C: + bias, one rounding. */
static void finish(const job *j, const float *from, int64_t from_ld, block at) {
  const gd_matmul *m = j->m;
  for (int64_t i = 0; i < at.rows; i++)
    for (int64_t c = 0; c < at.columns; c += VF_LANES) {
      int n = vf_left(c, at.columns);
      vf sum = vf_load_n(from + i * from_ld + c, n);
      if (m->bias) sum = vf_add(sum, vf_load_as(m->dtype, m->bias, at.n + c, n));
      vf_store_as(m->c_dtype, m->c, (at.m + i) * m->ldc + at.n + c, sum, n);
    }
}

/* One register tile that goes to C over the edge buffer: tails, bias, bfloat16. load: C holds the chain so far (else
 * call->from). */
static void edge_tile(const job *j, gemm_micro *call, block at, bool load, bool last) {
  const gd_matmul *m = j->m;
  float *c = m->c_dtype == GD_FLOAT32 ? (float *)m->c + at.m * m->ldc + at.n : NULL;
  if (load) {
    for (int64_t i = 0; i < at.rows; i++)
      for (int64_t x = 0; x < at.columns; x += VF_LANES)
        vf_store(j->edge + i * GEMM_NR + x, vf_load_n(c + i * m->ldc + x, vf_left(x, at.columns)));
    call->from = j->edge;
    call->from_ld = GEMM_NR;
  }
  call->to = j->edge;
  call->to_ld = GEMM_NR;
  GD_CPU(gemm_micro)(call, (int)at.rows);
  if (last) {
    finish(j, j->edge, GEMM_NR, at);
  } else {
    for (int64_t i = 0; i < at.rows; i++)
      for (int64_t x = 0; x < at.columns; x += VF_LANES)
        vf_store_n(c + i * m->ldc + x, vf_load(j->edge + i * GEMM_NR + x), vf_left(x, at.columns));
  }
}

/* Where a round of packing leaves the sums of a block. */
typedef struct target {
  const float *from; /* tile with the chain so far; NULL: +0 */
  float *to;         /* tile; NULL: C */
  bool add;          /* to + chain */
  bool load, last;   /* C: it holds the chain so far; this round ends it */
} target;

/* All register tiles of a block for one round of packing; B is packed. */
static void multiply(const job *j, block at, int64_t k, int64_t length, target t) {
  const gd_matmul *m = j->m;
  int64_t elems = gemm_unit_elems(j->a.units);
  gemm_micro call = {.panel = j->panel, .pairs = j->a.units == GEMM_PAIRS, .units = (length + elems - 1) / elems, .add = t.add};
  for (int64_t i = 0; i < at.rows; i += GEMM_MR) {
    int rows = (int)at_most(at.rows - i, GEMM_MR);
    int64_t in_group = i / GEMM_MR % GEMM_GROUP;
    if (in_group == 0) GD_CPU(gemm_pack_a)(&j->a, at.m + i, at_most(at.rows - i, GEMM_GROUP * GEMM_MR), k, length, j->a_pack);
    call.a = j->a_pack + in_group * (GEMM_MR * GEMM_AROW);
    for (int64_t x = 0; x < at.columns; x += GEMM_NR) {
      int64_t columns = at_most(at.columns - x, GEMM_NR);
      call.b = j->b_pack + x * GEMM_KU;
      call.from = NULL;
      if (t.to) {
        call.from = t.from ? t.from + i * TILE_LD + x : NULL;
        call.to = t.to + i * TILE_LD + x;
        call.from_ld = call.to_ld = TILE_LD;
        GD_CPU(gemm_micro)(&call, rows);
        continue;
      }
      bool whole = columns == GEMM_NR && GD_CPU(gemm_micro_rows)(rows) == rows;
      if (whole && m->c_dtype == GD_FLOAT32 && !(t.last && m->bias)) {
        call.to = (float *)m->c + (at.m + i) * m->ldc + at.n + x;
        call.from = t.load ? call.to : NULL;
        call.from_ld = call.to_ld = m->ldc;
        GD_CPU(gemm_micro)(&call, rows);
      } else {
        call.from = t.from ? t.from + i * TILE_LD + x : NULL;
        call.from_ld = TILE_LD;
        edge_tile(j, &call, (block){at.m + i, at.n + x, rows, columns}, t.load, t.last);
      }
    }
  }
}

/* One chain over k .. k + length into `to` (a tile, added to where `add`; NULL: C), by rounds of packing. partial: the tile
 * that holds the chain between rounds. */
static void chain(const job *j, block at, int64_t k, int64_t length, float *partial, float *to, bool add) {
  int64_t round = GEMM_KU * gemm_unit_elems(j->a.units), done = 0;
  do {
    int64_t part = at_most(length - done, round);
    bool first = done == 0, last = done + part >= length;
    target t = {.from = first ? NULL : partial, .to = last ? to : partial, .add = last && add};
    t.load = partial == NULL && (!first || j->m->accumulate);
    t.last = last;
    GD_CPU(gemm_pack_b)(&j->b, at.n, at.columns, k + done, part, j->b_pack);
    multiply(j, at, k + done, part, t);
    done += part;
  } while (done < length);
}

/* Tile top - 2 := tile top - 2 + tile top - 1. */
static void merge(const job *j, block at, int64_t top) {
  float *to = slot(j, top - 2), *from = slot(j, top - 1);
  for (int64_t i = 0; i < at.rows; i++)
    for (int64_t c = 0; c < at.columns; c += VF_LANES) /* padding columns of a tile are there */
      vf_store(to + i * TILE_LD + c, vf_add(vf_load(to + i * TILE_LD + c), vf_load(from + i * TILE_LD + c)));
}

/* The nodes of a tree lie in the tiles from `base` on. */
static void close_nodes(const job *j, block at, tree_stack *tree, int64_t base, int64_t next) {
  while (tree_closes(tree, next)) merge(j, at, base + tree->depth--);
}

static void close_all(const job *j, block at, tree_stack *tree, int64_t base) {
  while (tree->depth > 1) merge(j, at, base + tree->depth--);
}

/* An odd leaf is added to its sibling, which is on top, by the micro-kernel. */
static void tree_leaf(const job *j, block at, tree_stack *tree, int64_t base, int64_t leaf, int64_t k, int64_t length) {
  bool add = leaf & 1;
  close_nodes(j, at, tree, base, leaf);
  int64_t top = base + tree->depth;
  chain(j, at, k, length, slot(j, top), slot(j, add ? top - 1 : top), add);
  if (!add) tree_enter(tree, leaf);
}

/* The sums of a block as two nested trees on a stack of tiles. */
static void tree_block(job *j, block at) {
  const gd_matmul *m = j->m;
  const char *a = j->a.base, *b = j->b.base;
  int64_t bytes = (int64_t)gd_dtype_bytes(m->dtype);
  tree_stack outer_tree = {.depth = 0};
  for (int64_t outer = 0; outer < m->leaves; outer++) {
    j->a.base = a + outer * m->a_leaf_stride * bytes;
    j->b.base = b + outer * m->b_leaf_stride * bytes;
    if (j->inner == 1) {
      tree_leaf(j, at, &outer_tree, 0, outer, 0, m->k);
      continue;
    }
    tree_stack inner_tree = {.depth = 0};
    close_nodes(j, at, &outer_tree, 0, outer);
    for (int64_t inner = 0; inner < j->inner; inner++) {
      int64_t k = inner * j->k_leaf;
      tree_leaf(j, at, &inner_tree, outer_tree.depth, inner, k, at_most(m->k - k, j->k_leaf));
    }
    close_all(j, at, &inner_tree, outer_tree.depth);
    tree_enter(&outer_tree, outer);
  }
  close_all(j, at, &outer_tree, 0);
  j->a.base = a;
  j->b.base = b;
  finish(j, slot(j, 0), TILE_LD, at);
}

/* The rectangle of one thread. */
static void rectangle(job *j, block all) {
  for (int64_t n = 0; n < all.columns; n += GEMM_NC)
    for (int64_t r = 0; r < all.rows; r += j->rows) {
      block at = {all.m + r, all.n + n, at_most(all.rows - r, j->rows), at_most(all.columns - n, GEMM_NC)};
      if (j->tree) {
        tree_block(j, at);
      } else if (j->tiles) {
        chain(j, at, 0, j->m->k, slot(j, 0), NULL, false);
      } else {
        chain(j, at, 0, j->m->k, NULL, NULL, false);
      }
    }
}

static job plan(const gd_matmul *m) {
  gemm_units units = gemm_units_of(m->dtype);
  job j = {.m = m};
  bool a_along_k = m->form != GD_MATMUL_TN, b_along_k = m->form == GD_MATMUL_NT;
  j.a = (gemm_operand){units, a_along_k, m->a, a_along_k ? 1 : m->lda, a_along_k ? m->lda : 1};
  j.b = (gemm_operand){units, b_along_k, m->b, b_along_k ? 1 : m->ldb, b_along_k ? m->ldb : 1};
  j.panel = a_along_k ? GEMM_BY_ROWS : GEMM_BY_UNITS;
  j.k_leaf = m->k_leaf > 0 && m->k_leaf < m->k ? m->k_leaf : m->k;
  j.inner = m->k > 0 ? (m->k + j.k_leaf - 1) / j.k_leaf : 1;
  j.tree = m->leaves * j.inner > 1;
  j.tiles = j.tree || (m->c_dtype != GD_FLOAT32 && m->k > GEMM_KU * gemm_unit_elems(units));
  j.slots = j.tree ? bit_length(m->leaves) + bit_length(j.inner) + 1 : 1;
  j.rows = j.tiles ? TILE_FLOATS / (TILE_LD * j.slots) / GEMM_MR * GEMM_MR : INT64_MAX / 4;
  int64_t leaf_units = j.k_leaf / gemm_unit_elems(units);
  if (j.tree && leaf_units < SHORT_LEAF_UNITS) j.rows = at_most(j.rows, SHORT_LEAF_ROWS);
  return j;
}

/* Cuts C into down x across = threads rectangles so that the largest costs least, packing included. */
static void choose_grid(const gd_matmul *m, int threads, int *down, int *across) {
  double best = 0.0;
  for (int d = 1; d <= threads; d++) {
    if (threads % d) continue;
    int64_t row_panels = (m->m + GEMM_MR - 1) / GEMM_MR, column_panels = (m->n + GEMM_NR - 1) / GEMM_NR;
    double rows = (double)((row_panels + d - 1) / d * GEMM_MR);
    double columns = (double)((column_panels + threads / d - 1) / (threads / d) * GEMM_NR);
    double cost = rows * columns + 8.0 * columns + 2.0 * rows;
    if (d == 1 || cost < best) {
      best = cost;
      *down = d;
      *across = threads / d;
    }
  }
}

static gd_status matmul_run(const gd_matmul *m, const gd_cpu_context *context) {
  if (m->accumulate && (m->c_dtype != GD_FLOAT32 || m->leaves != 1 || (m->k_leaf > 0 && m->k_leaf < m->k)))
    return gd_fail(GD_BUG, "a product that accumulates must be one float32 chain");
  if (m->m <= 0 || m->n <= 0) return GD_OK;
  double work = (double)m->m * (double)m->n * (double)m->k * (double)m->leaves;
  int threads = work < 262144.0 ? 1 : (int)context->threads, down = 1, across = 1;
  choose_grid(m, threads, &down, &across);
#pragma omp parallel num_threads(threads)
  {
    int parts = omp_get_num_threads(), thread = omp_get_thread_num();
    job j = plan(m);
    j.a_pack = gd_cpu_scratch(context, thread);
    j.b_pack = j.a_pack + A_FLOATS;
    j.edge = j.b_pack + B_FLOATS;
    j.tile = j.edge + EDGE_FLOATS;
    for (int part = thread; part < down * across; part += parts) { /* more than one where fewer threads came */
      int64_t row, row_end, column, column_end;
      gd_parallel_part(m->m, GEMM_MR, part / across, down, &row, &row_end);
      gd_parallel_part(m->n, GEMM_NR, part % across, across, &column, &column_end);
      rectangle(&j, (block){row, column, row_end - row, column_end - column});
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(matmul, gd_matmul, NULL, 0)
