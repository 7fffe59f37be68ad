/* check_collectives - every collective between GPUs against what it must deliver, on all ranks and on groups split from them.
 *
 * mpirun -np N check_collectives, a GPU a rank, or GPTDIST_TEST_SHARE_GPU=nccl for several ranks on one GPU, which NCCL does
 * not support (slow, over the loopback device): NCCL's. `check_collectives staged`: MPI's, through pinned memory, on any GPUs.
 * `check_collectives cpu` runs the same checks over MPI without a GPU: it tests the checks. */
#include <mpi.h>

#include "comm/collectives_mpi.h"
#include "tests/gpu/gpu.h"

enum { PART = 1000, MAX_RANKS = 64 };

static gd_device device;
static int failed;

/* Byte i of what rank r means for rank to. */
static unsigned char pattern(int r, int to, size_t i) {
  return (unsigned char)(r * 31 + to * 7 + (int)(i % 251));
}

static size_t uneven(int r) {
  return (size_t)(r % 3) * 100 + (size_t)r; /* 0 bytes for rank 0 */
}

static unsigned char *buffer(size_t bytes) {
  void *pointer;
  gpu_must(device.ops->alloc(&device, bytes, &pointer));
  gpu_must(device.ops->fill(device.communication, pointer, 0xee, bytes));
  return pointer;
}

static void put(unsigned char *to, const void *from, size_t bytes) {
  gpu_must(device.ops->copy(device.communication, to, from, bytes, GD_COPY_HOST_TO_DEVICE));
  gpu_must(device.ops->stream_sync(device.communication));
}

static void get(void *to, const void *from, size_t bytes) {
  gpu_must(device.ops->copy(device.communication, to, from, bytes, GD_COPY_DEVICE_TO_HOST));
  gpu_must(device.ops->stream_sync(device.communication));
}

static void expect(const gd_group *g, const char *what, bool good) {
  if (good) return;
  printf("%s on group %s, rank %d of %d: FAILED\n", what, g->name, (int)g->rank, (int)g->size);
  failed++;
}

/* Whether device bytes at p are part (r -> to). */
static bool holds(const unsigned char *p, int r, int to, size_t bytes) {
  unsigned char host[PART];
  get(host, p, bytes);
  for (size_t i = 0; i < bytes; i++)
    if (host[i] != pattern(r, to, i)) return false;
  return true;
}

static void fill_part(unsigned char *p, int r, int to, size_t bytes) {
  unsigned char host[PART];
  for (size_t i = 0; i < bytes; i++) host[i] = pattern(r, to, i);
  put(p, host, bytes);
}

static void check_even(gd_group *g) {
  gd_stream *s = device.communication;
  int n = g->size, me = g->rank, root = n - 1;
  unsigned char *a = buffer((size_t)n * PART), *b = buffer((size_t)n * PART);
  bool good = true;
  fill_part(a, me, 0, PART);
  gpu_must(g->ops->all_gather(g, s, a, b, PART));
  for (int r = 0; r < n; r++) good &= holds(b + r * PART, r, 0, PART);
  fill_part(a + me * PART, me, 1, PART);
  gpu_must(g->ops->all_gather(g, s, a + me * PART, a, PART));
  for (int r = 0; r < n; r++) good &= holds(a + r * PART, r, 1, PART);
  expect(g, "all_gather", good);
  for (int r = 0; r < n; r++) fill_part(a + r * PART, me, r, PART);
  gpu_must(g->ops->all_to_all(g, s, a, b, PART));
  good = true;
  for (int r = 0; r < n; r++) good &= holds(b + r * PART, r, me, PART);
  expect(g, "all_to_all", good);
  fill_part(a, me, 6, PART);
  gpu_must(g->ops->broadcast(g, s, a, PART, root));
  expect(g, "broadcast", holds(a, root, 6, PART));
  device.ops->free(&device, a);
  device.ops->free(&device, b);
}

/* Two messages to each rank, itself too, all sent before any is received; they match in order. */
static void check_exchange(gd_group *g) {
  int n = g->size, me = g->rank, count = 0;
  unsigned char *a = buffer(2 * (size_t)n * PART), *b = buffer(2 * (size_t)n * PART);
  gd_message list[4 * MAX_RANKS];
  for (int i = 0; i < 2 * n; i++) {
    fill_part(a + i * PART, me, i, PART);
    list[count++] = (gd_message){GD_SEND, i % n, a + i * PART, PART - (size_t)i};
  }
  for (int i = 0; i < 2 * n; i++)
    list[count++] = (gd_message){GD_RECEIVE, i / 2, b + i * PART, PART - (size_t)(me + i % 2 * n)};
  gpu_must(g->ops->exchange(g, device.communication, list, count));
  bool good = true;
  for (int i = 0; i < 2 * n; i++) good &= holds(b + i * PART, i / 2, me + i % 2 * n, PART - (size_t)(me + i % 2 * n));
  expect(g, "exchange", good);
  device.ops->free(&device, a);
  device.ops->free(&device, b);
}

static void check_uneven(gd_group *g) {
  gd_stream *s = device.communication;
  int n = g->size, me = g->rank;
  size_t sizes[MAX_RANKS], offsets[MAX_RANKS], mine[MAX_RANKS], strided[MAX_RANKS];
  for (int r = 0; r < n; r++) {
    sizes[r] = uneven(r);
    mine[r] = uneven(me);
    offsets[r] = (size_t)(n - 1 - r) * PART; /* not in rank order */
    strided[r] = (size_t)r * PART;
  }
  unsigned char *a = buffer((size_t)n * PART), *b = buffer((size_t)n * PART);
  bool good = true;
  fill_part(a, me, 0, sizes[me]);
  gpu_must(g->ops->all_gather_uneven(g, s, a, b, sizes, offsets));
  for (int r = 0; r < n; r++) good &= holds(b + offsets[r], r, 0, sizes[r]);
  fill_part(b + offsets[me], me, 1, sizes[me]);
  gpu_must(g->ops->all_gather_uneven(g, s, b + offsets[me], b, sizes, offsets));
  for (int r = 0; r < n; r++) good &= holds(b + offsets[r], r, 1, sizes[r]);
  expect(g, "all_gather_uneven", good);
  /* Everyone sends sizes[r] bytes to r. */
  for (int r = 0; r < n; r++) fill_part(a + strided[r], me, r, sizes[r]);
  gpu_must(g->ops->all_to_all_uneven(g, s, a, sizes, strided, b, mine, offsets));
  good = true;
  for (int r = 0; r < n; r++) good &= holds(b + offsets[r], r, me, mine[r]);
  expect(g, "all_to_all_uneven", good);
  device.ops->free(&device, a);
  device.ops->free(&device, b);
}

static void check_reductions(gd_group *g) {
  gd_stream *s = device.communication;
  int n = g->size, me = g->rank;
  float values[MAX_RANKS * 4];
  int64_t largest[3] = {me, -me, 7};
  unsigned char *a = buffer(sizeof values), *b = buffer(sizeof values);
  for (int i = 0; i < n * 4; i++) values[i] = (float)(me + 1) * (float)i;
  float factor = (float)(n * (n + 1)) / 2;
  put(a, values, sizeof values);
  gpu_must(g->ops->reduce_scatter(g, s, a, b, 4, GD_FLOAT32, GD_SUM));
  get(values, b, 4 * sizeof *values);
  bool good = true;
  for (int i = 0; i < 4; i++) good &= values[i] == factor * (float)(me * 4 + i);
  expect(g, "reduce_scatter", good);
  gpu_must(g->ops->all_reduce(g, s, a, 4, GD_FLOAT32, GD_SUM));
  get(values, a, 4 * sizeof *values);
  good = true;
  for (int i = 0; i < 4; i++) good &= values[i] == factor * (float)i;
  put(a, largest, sizeof largest);
  gpu_must(g->ops->all_reduce(g, s, a, 3, GD_INT64, GD_MAX));
  get(largest, a, sizeof largest);
  expect(g, "all_reduce", good && largest[0] == n - 1 && largest[1] == 0 && largest[2] == 7);
  device.ops->free(&device, a);
  device.ops->free(&device, b);
}

/* Two groups on two streams, which half of the ranks call in the other order: neither call may hold up the other's. */
static void check_crossed(gd_group *one, gd_group *two) {
  int n = one->size, first = one->rank % 2;
  unsigned char *a = buffer((size_t)n * PART), *b = buffer((size_t)n * PART);
  bool good = true;
  fill_part(a + one->rank * PART, one->rank, 0, PART);
  fill_part(b + two->rank * PART, two->rank, 1, PART);
  for (int i = 0; i < 2; i++)
    gpu_must(i == first ? one->ops->all_gather(one, device.compute, a + one->rank * PART, a, PART)
                        : two->ops->all_gather(two, device.communication, b + two->rank * PART, b, PART));
  gpu_must(device.ops->stream_sync(device.compute));
  for (int r = 0; r < n; r++) good &= holds(a + r * PART, r, 0, PART) && holds(b + r * PART, r, 1, PART);
  expect(one, "two groups in two orders", good);
  device.ops->free(&device, a);
  device.ops->free(&device, b);
}

static void check_group(gd_group *g) {
  check_even(g);
  check_exchange(g);
  check_uneven(g);
  check_reductions(g);
}

static void open_gpu(const gd_cuda_backend_table *table, int rank) {
  if (table->open_device(rank, &device) == GD_OK) {
    gpu_must(gd_device_guard(&device));
    return;
  }
  if (rank == 0) printf("skipped: no GPU (%s)\n", gd_error_text());
  MPI_Finalize();
  exit(GPU_SKIP);
}

int main(int argc, char **argv) {
  int level, rank, ranks;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const char *way = argc > 1 ? argv[1] : "nccl";
  bool nccl = strcmp(way, "nccl") == 0, staged = strcmp(way, "staged") == 0;
  const gd_cuda_backend_table *table = nccl || staged ? gpu_backend() : NULL;
  gd_staging *staging = NULL;
  gd_group *world, *half, *again = NULL;
  if (nccl) {
    gd_cuda_unique_id id;
    open_gpu(table, rank);
    if (rank == 0) gpu_must(table->unique_id(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    gpu_must(table->world_group(&device, rank, ranks, &id, &world));
    gpu_must(table->split_group(world, rank % 2, -rank, "half", &half));
  } else {
    if (staged) {
      open_gpu(table, rank);
      gpu_must(gd_staging_open(&device, &staging));
    } else {
      gpu_must(gd_device_open_cpu(&device));
    }
    gpu_must(gd_collectives_mpi_group("world", 0, rank, staging, &world));
    gpu_must(gd_collectives_mpi_group("half", rank % 2, -rank, staging, &half));
    gpu_must(gd_collectives_mpi_group("again", 0, rank, staging, &again));
  }
  check_group(world);
  check_group(half);
  if (staged) check_crossed(world, again);
  int all = 0;
  MPI_Allreduce(&failed, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0)
    printf("%s collectives%s on %d ranks: %s\n", world->ops->name, staged ? " of a GPU's memory" : "", ranks,
           all ? "FAILED" : "all right");
  if (again) again->ops->destroy(again);
  half->ops->destroy(half);
  world->ops->destroy(world);
  gd_staging_close(staging);
  device.ops->close(&device);
  MPI_Finalize();
  return all ? 1 : 0;
}
