/* gemm.c - the matrix product: blocks of C, the chains and the two nested trees of each, and the split over threads.
 *
 * Each thread owns a rectangle of C and works alone: it packs what it needs, so there is nothing to wait for. Inside, C goes
 * block by block; where sums form a tree (or bfloat16 C takes several rounds of packing) the block's partial sums live in a
 * stack of tiles in scratch memory, else in C itself. A block's work is a list of rounds: pack a piece of B, then by groups
 * of panels pack A and multiply. While a round multiplies, memory that the next packings will read is on its way.
 */
#include "trainer/kernels/cpu/gemm.h"
#include "trainer/kernels/cpu/parallel.h"
#include "trainer/kernels/cpu/tree_stack.h"

enum {
  A_FLOATS = GEMM_GROUP * GEMM_MR * GEMM_AROW + 16,
  B_FLOATS = GEMM_B_UNITS + 16 * GEMM_NC,
  EDGE_FLOATS = GEMM_MR * GEMM_NR,
  GROUP_ROWS = GEMM_GROUP * GEMM_MR,
  AHEAD_LINES = 64,      /* of each operand, fetched during one register tile */
  SHORT_LEAF_ROWS = 288, /* rows of a block whose leaves are short: the tiles at work stay in the second-level cache */
  SHORT_LEAF_UNITS = 512,
  TILE_FLOATS = GD_CPU_SCRATCH_BYTES / 4 - A_FLOATS - B_FLOATS - EDGE_FLOATS,
};

/* A rectangle of C. */
typedef struct block {
  int64_t m, n, rows, columns;
} block;

typedef struct job {
  const gd_matmul *m;
  gemm_operand a, b;
  gemm_panel panel;
  int64_t inner;                  /* inner leaves of an outer one */
  int64_t k_leaf;                 /* elements of an inner leaf */
  bool tree;                      /* more than one leaf in all */
  bool tiles;                     /* partial sums live in tiles */
  block all;                      /* this thread's part of C */
  int64_t rows, columns, tile_ld; /* of a block */
  float *a_pack, *b_pack, *edge, *tile;
} job;

static int64_t bit_length(int64_t x) {
  int64_t bits = 0;
  for (; x > 0; x >>= 1) bits++;
  return bits;
}

static int64_t at_most(int64_t x, int64_t limit) {
  return x < limit ? x : limit;
}

static int64_t rounded_up(int64_t x, int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

static float *slot(const job *j, int64_t index) {
  return j->tile + index * j->rows * j->tile_ld;
}

/* Stores rows x columns of the edge buffer to C: + bias, one rounding. dtype, that of C, is a constant. */
static ALWAYS_INLINE void finish_as(const job *j, const float *from, int64_t from_ld, block at, const gd_dtype dtype) {
  const gd_matmul *m = j->m;
  for (int64_t c = 0; c < at.columns; c += VF_LANES) {
    int n = vf_left(c, at.columns);
    vf bias = m->bias ? vf_load_as(m->dtype, m->bias, at.n + c, n) : vf_zero();
    for (int64_t i = 0; i < at.rows; i++) {
      vf sum = n == VF_LANES ? vf_load(from + i * from_ld + c) : vf_load_n(from + i * from_ld + c, n);
      if (m->bias) sum = vf_add(sum, bias);
      vf_store_as(dtype, m->c, (at.m + i) * m->ldc + at.n + c, sum, n);
    }
  }
}

static void finish(const job *j, const float *from, int64_t from_ld, block at) {
  if (j->m->c_dtype == GD_BFLOAT16) {
    finish_as(j, from, from_ld, at, GD_BFLOAT16);
  } else {
    finish_as(j, from, from_ld, at, GD_FLOAT32);
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

/* One round of packing: elements done .. done + length of the chain of a leaf of a block. */
typedef struct packing {
  block at;
  int64_t outer, inner, done, length;
} packing;

/* Where a round leaves the sums of its block. */
typedef struct target {
  const float *from; /* tile with the chain so far; NULL: +0 */
  float *to;         /* tile; NULL: C */
  bool add;          /* to + chain */
  bool load, last;   /* C: it holds the chain so far; this round ends it */
} target;

static int64_t chain_length(const job *j, int64_t inner) {
  return at_most(j->m->k - inner * j->k_leaf, j->k_leaf);
}

/* The rounds of a chain are equally long, in whole blocks of 16 units: a short one at the end would carry the sums to memory
 * and back for few products. */
static void set_length(const job *j, packing *r) {
  int64_t elems = gemm_unit_elems(j->a.units), chain = chain_length(j, r->inner), units = (chain + elems - 1) / elems;
  int64_t rounds = (units + GEMM_KU - 1) / GEMM_KU;
  int64_t each = rounds > 0 ? rounded_up((units + rounds - 1) / rounds, 16) : 0;
  r->length = at_most(chain - r->done, each * elems);
}

static void first_round(const job *j, packing *r) {
  r->at.rows = at_most(j->all.rows, j->rows);
  r->at.columns = at_most(j->all.columns, j->columns);
  r->at.m = j->all.m;
  r->at.n = j->all.n;
  r->outer = r->inner = r->done = 0;
  set_length(j, r);
}

/* The round after r: along its chain, then leaf by leaf, then blocks down, then across. false: r was the last one. */
static bool next_round(const job *j, packing *r) {
  const block *all = &j->all;
  r->done += r->length;
  if (r->done >= chain_length(j, r->inner)) {
    r->done = 0;
    if (++r->inner == j->inner) {
      r->inner = 0;
      r->outer++;
    }
  }
  if (r->outer == j->m->leaves) {
    r->outer = 0;
    r->at.m += r->at.rows;
    if (r->at.m >= all->m + all->rows) {
      r->at.m = all->m;
      r->at.n += r->at.columns;
      if (r->at.n >= all->n + all->columns) return false;
      r->at.columns = at_most(all->n + all->columns - r->at.n, j->columns);
    }
    r->at.rows = at_most(all->m + all->rows - r->at.m, j->rows);
  }
  set_length(j, r);
  return true;
}

/* The first element of k of a round, and an operand from its outer leaf on. */
static int64_t first_k(const job *j, const packing *r) {
  return r->inner * j->k_leaf + r->done;
}

static gemm_operand a_of(const job *j, const packing *r) {
  return gemm_from(&j->a, r->outer * j->m->a_leaf_stride);
}

static gemm_operand b_of(const job *j, const packing *r) {
  return gemm_from(&j->b, r->outer * j->m->b_leaf_stride);
}

/* Columns or rows x .. x + count of an operand, k .. k + length: what a packing reads. */
static gemm_ahead ahead_of(gemm_operand m, int64_t x, int64_t count, int64_t k, int64_t length) {
  int64_t bytes = gemm_element_bytes(m.units);
  const char *first = (const char *)m.base + (x * m.x_stride + k * m.k_stride) * bytes;
  if (m.along_k) return gemm_ahead_of(first, count, m.x_stride * bytes, length * bytes);
  return gemm_ahead_of(first, length, m.k_stride * bytes, count * bytes);
}

/* What gemm_pack_b, and gemm_pack_a of the group from row i of the block on, will read for a round; during so many tiles. */
static gemm_ahead b_ahead(const job *j, const packing *r, int64_t tiles) {
  gemm_ahead a = ahead_of(b_of(j, r), r->at.n, r->at.columns, first_k(j, r), r->length);
  a.a_tile = at_most(a.left / tiles + 1, AHEAD_LINES);
  return a;
}

static gemm_ahead a_ahead(const job *j, const packing *r, int64_t i, int64_t tiles) {
  gemm_ahead a = ahead_of(a_of(j, r), r->at.m + i, at_most(r->at.rows - i, GROUP_ROWS), first_k(j, r), r->length);
  a.a_tile = at_most(a.left / tiles + 1, AHEAD_LINES);
  return a;
}

/* The sums that the register tile at (i, x) of a block goes on with. The tiles of a tree are in that cache. */
static gemm_ahead sums_of(const job *j, block at, target t, int64_t i, int64_t x) {
  const gd_matmul *m = j->m;
  if (j->tree || i >= at.rows || (!t.load && !t.from)) return (gemm_ahead){.left = 0};
  int64_t rows = at_most(at.rows - i, GEMM_MR), width = at_most(at.columns - x, GEMM_NR) * (int64_t)sizeof(float);
  int64_t ld = t.load ? m->ldc : j->tile_ld;
  const float *from = t.load ? (const float *)m->c + (at.m + i) * ld + at.n + x : t.from + i * ld + x;
  gemm_ahead a = gemm_ahead_of(from, rows, ld * (int64_t)sizeof *from, width);
  a.a_tile = a.left;
  return a;
}

/* All register tiles of a block for one round of packing; B is packed. next: the round after it, or NULL. While the tiles
 * multiply, what the next packings read comes to the second-level cache: from there packing is four times as fast. */
static void multiply(const job *j, const packing *r, const packing *next, target t) {
  const gd_matmul *m = j->m;
  const block at = r->at;
  int64_t elems = gemm_unit_elems(j->a.units), panel_floats = gemm_b_panel(j->b.units, r->length);
  int64_t across = (at.columns + GEMM_NR - 1) / GEMM_NR, down = (at.rows + GEMM_MR - 1) / GEMM_MR;
  gemm_operand a = a_of(j, r);
  gemm_micro call = {
      .panel = j->panel, .pairs = j->a.units == GEMM_PAIRS, .units = (r->length + elems - 1) / elems, .add = t.add};
  gemm_ahead *of_sums = call.ahead, *of_a = call.ahead + 1, *of_b = call.ahead + 2;
  if (next) *of_b = b_ahead(j, next, across * down);
  for (int64_t i = 0; i < at.rows; i += GEMM_MR) {
    int rows = (int)at_most(at.rows - i, GEMM_MR);
    int64_t in_group = i / GEMM_MR % GEMM_GROUP;
    if (in_group == 0) {
      GD_CPU(gemm_pack_a)(&a, at.m + i, at_most(at.rows - i, GROUP_ROWS), first_k(j, r), r->length, j->a_pack);
      int64_t tiles = across * at_most(GEMM_GROUP, down - i / GEMM_MR);
      if (i + GROUP_ROWS < at.rows) {
        *of_a = a_ahead(j, r, i + GROUP_ROWS, tiles);
      } else if (next) {
        *of_a = a_ahead(j, next, 0, tiles);
      }
    }
    call.a = j->a_pack + in_group * (GEMM_MR * GEMM_AROW);
    for (int64_t x = 0; x < at.columns; x += GEMM_NR) {
      int64_t columns = at_most(at.columns - x, GEMM_NR);
      bool wraps = x + GEMM_NR >= at.columns;
      *of_sums = sums_of(j, at, t, wraps ? i + GEMM_MR : i, wraps ? 0 : x + GEMM_NR);
      call.b = j->b_pack + x / GEMM_NR * panel_floats;
      call.from = NULL;
      if (t.to) {
        call.from = t.from ? t.from + i * j->tile_ld + x : NULL;
        call.to = t.to + i * j->tile_ld + x;
        call.from_ld = call.to_ld = j->tile_ld;
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
        call.from = t.from ? t.from + i * j->tile_ld + x : NULL;
        call.from_ld = j->tile_ld;
        edge_tile(j, &call, (block){at.m + i, at.n + x, rows, columns}, t.load, t.last);
      }
    }
  }
}

/* Tile top - 2 := tile top - 2 + tile top - 1. */
static void merge(const job *j, block at, int64_t top) {
  float *to = slot(j, top - 2), *from = slot(j, top - 1);
  for (int64_t i = 0; i < at.rows; i++)
    for (int64_t c = 0; c < at.columns; c += VF_LANES) /* padding columns of a tile are there */
      vf_store(to + i * j->tile_ld + c, vf_add(vf_load(to + i * j->tile_ld + c), vf_load(from + i * j->tile_ld + c)));
}

/* The nodes of a tree lie in the tiles from `base` on. */
static void close_nodes(const job *j, block at, tree_stack *tree, int64_t base, int64_t next) {
  while (tree_closes(tree, next)) merge(j, at, base + tree->depth--);
}

static void close_all(const job *j, block at, tree_stack *tree, int64_t base) {
  while (tree->depth > 1) merge(j, at, base + tree->depth--);
}

/* The sums of a block as two nested trees on a stack of tiles: inner leaves are cuts of the k of an outer one. */
typedef struct trees {
  tree_stack outer, inner;
} trees;

/* The tree whose leaf a round's chain is, the leaf's number, and the tile of the tree's first node. */
static tree_stack *tree_of(const job *j, const packing *r, trees *sums, int64_t *leaf, int64_t *base) {
  *leaf = j->inner == 1 ? r->outer : r->inner;
  *base = j->inner == 1 ? 0 : sums->outer.depth;
  return j->inner == 1 ? &sums->outer : &sums->inner;
}

/* Before a round. An odd leaf is added to its sibling, which is on top, by the micro-kernel. */
static target begin_round(const job *j, const packing *r, trees *sums) {
  bool first = r->done == 0, last = r->done + r->length >= chain_length(j, r->inner);
  float *partial = j->tiles ? slot(j, 0) : NULL;
  target t = {.load = !j->tiles && (!first || j->m->accumulate), .last = last};
  if (j->tree) {
    if (first && r->inner == 0 && j->inner > 1) close_nodes(j, r->at, &sums->outer, 0, r->outer);
    int64_t leaf, base;
    tree_stack *tree = tree_of(j, r, sums, &leaf, &base);
    if (first) close_nodes(j, r->at, tree, base, leaf);
    partial = slot(j, base + tree->depth);
    t.add = last && (leaf & 1);
    t.to = t.add ? slot(j, base + tree->depth - 1) : partial;
  } else if (!last) {
    t.to = partial;
  }
  t.from = first ? NULL : partial;
  return t;
}

static void end_round(const job *j, const packing *r, trees *sums) {
  if (!j->tree || r->done + r->length < chain_length(j, r->inner)) return;
  int64_t leaf, base;
  tree_stack *tree = tree_of(j, r, sums, &leaf, &base);
  if (!(leaf & 1)) tree_enter(tree, leaf);
  if (r->inner + 1 < j->inner) return;
  if (j->inner > 1) {
    close_all(j, r->at, &sums->inner, sums->outer.depth);
    sums->inner.depth = 0;
    tree_enter(&sums->outer, r->outer);
  }
  if (r->outer + 1 < j->m->leaves) return;
  close_all(j, r->at, &sums->outer, 0);
  sums->outer.depth = 0;
  finish(j, slot(j, 0), j->tile_ld, r->at);
}

/* The rectangle of one thread. */
static void rectangle(const job *j) {
  trees sums = {.outer = {.depth = 0}, .inner = {.depth = 0}};
  packing r;
  first_round(j, &r);
  for (bool more = true; more;) {
    packing next = r;
    more = next_round(j, &next);
    gemm_operand b = b_of(j, &r);
    target t = begin_round(j, &r, &sums);
    GD_CPU(gemm_pack_b)(&b, r.at.n, r.at.columns, first_k(j, &r), r.length, j->b_pack);
    multiply(j, &r, more ? &next : NULL, t);
    end_round(j, &r, &sums);
    r = next;
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
  return j;
}

/* How large the blocks of `all` are: as many columns as the packed B has room for, even parts, and where sums lie in tiles as
 * many rows as those have. */
static void cut(job *j, block all) {
  int64_t units = at_most(gemm_b_panel(j->b.units, j->k_leaf) / GEMM_NR, GEMM_KU);
  int64_t most = at_most(units > 0 ? GEMM_B_UNITS / units / GEMM_NR * GEMM_NR : GEMM_NC, GEMM_NC);
  j->all = all;
  int64_t blocks = (all.columns + most - 1) / most;
  j->columns = rounded_up((all.columns + blocks - 1) / blocks, GEMM_NR);
  j->tile_ld = j->columns + 16;
  int64_t slots = j->tree ? bit_length(j->m->leaves) + bit_length(j->inner) + 1 : 1;
  j->rows = j->tiles ? TILE_FLOATS / (j->tile_ld * slots) / GEMM_MR * GEMM_MR : INT64_MAX / 4;
  if (j->tree && j->k_leaf / gemm_unit_elems(j->a.units) < SHORT_LEAF_UNITS) j->rows = at_most(j->rows, SHORT_LEAF_ROWS);
}

/* Cuts C into down x across = threads rectangles so that the largest costs least: its register tiles, and what each thread
 * reads and packs for itself, which another one's cache may hold. */
static void choose_grid(const gd_matmul *m, int threads, int *down, int *across) {
  double best = 0.0;
  for (int d = 1; d <= threads; d++) {
    if (threads % d) continue;
    int64_t row_panels = (m->m + GEMM_MR - 1) / GEMM_MR, column_panels = (m->n + GEMM_NR - 1) / GEMM_NR;
    double rows = (double)((row_panels + d - 1) / d * GEMM_MR);
    double columns = (double)((column_panels + threads / d - 1) / (threads / d) * GEMM_NR);
    double cost = rows * columns + 16.0 * columns + 10.0 * rows;
    if (d == 1 || cost < best) {
      best = cost;
      *down = d;
      *across = threads / d;
    }
  }
}

static gd_status product_run(const gd_matmul *m, const gd_cpu_context *context) {
  if (m->accumulate && (m->c_dtype != GD_FLOAT32 || m->leaves != 1 || (m->k_leaf > 0 && m->k_leaf < m->k)))
    return gd_fail(GD_BUG, "a product that accumulates must be one float32 chain");
  if (m->m <= 0 || m->n <= 0) return GD_OK;
  double work = (double)m->m * (double)m->n * (double)m->k * (double)m->leaves;
  int threads = work < 262144.0 ? 1 : (int)context->threads, down = 1, across = 1;
  if (GD_CPU(gemm_is_thin)(m, GD_CPU_SCRATCH_BYTES / sizeof(float))) {
#pragma omp parallel num_threads(threads)
    {
      int64_t first, end;
      gd_parallel_range(m->n, GEMM_NR, &first, &end);
      if (first < end) GD_CPU(gemm_thin)(m, first, end, gd_cpu_scratch(context, omp_get_thread_num()));
    }
    return GD_OK;
  }
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
      if (row == row_end || column == column_end) continue;
      cut(&j, (block){row, column, row_end - row, column_end - column});
      rectangle(&j);
    }
  }
  return GD_OK;
}
GD_CPU_KERNEL(product, gd_matmul, NULL, 0)

gd_status GD_CPU(matmul)(gd_kernels *kernels, const gd_matmul *args) {
  if (!gd_matmul_end_fits(args)) return gd_fail(GD_BUG, "a product ends in GELU where C is not stored and dense");
  const gd_matmul alone = gd_matmul_alone(args);
  const gd_activation_args end = gd_matmul_activation(args);
  GD_TRY(GD_CPU(product)(kernels, &alone));
  if (args->end == GD_MATMUL_PLAIN) return GD_OK;
  return args->end == GD_MATMUL_GELU ? GD_CPU(activation_forward)(kernels, &end) : GD_CPU(activation_backward)(kernels, &end);
}
