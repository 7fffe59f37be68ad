/* ranks: 1 2 3 4 */
/* Every collective of the group of all ranks against a plain loop over what each rank is known to hold, on the cpu and on the
 * lazy device, with the real count limit of MPI and with a tiny one that forces derived types and parts; from and to the
 * device's memory itself, and through memory beside it (comm/staging.h), as a GPU's goes. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/collectives_mpi.h"
#include "comm/session.h"
#include "tests/tables.h"

enum { MOST_BYTES = 1 << 16 };

static gd_session *session;
static gd_mesh mesh;
static gd_group *world;
static gd_device cpu, lazy;
static gd_staging *beside[2]; /* of cpu and lazy */
static gd_group *staged[2];   /* NULL: of one rank, which has no MPI */

typedef void body(gd_device *device);

/* Byte i of what rank r sends in the round. */
static unsigned char byte_of(int r, size_t i, unsigned round) {
  return (unsigned char)(r * 37 + (int)(i * 11) + (int)round * 5 + 1);
}

static const size_t sizes[] = {0, 1, 5, 7, 8, 100, 5000};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Runs the body on both devices, with both limits, both ways. */
static void everywhere(body *run) {
  static const size_t limits[] = {INT_MAX, 7};
  gd_device *devices[] = {&cpu, &lazy};
  gd_group *own = world;
  for (size_t l = 0; l < 2; l++) {
    gd_collectives_mpi_count_limit = limits[l];
    for (int d = 0; d < 2; d++) {
      run(devices[d]);
      if (!staged[d]) continue;
      world = staged[d];
      run(devices[d]);
      world = own;
    }
  }
  gd_collectives_mpi_count_limit = INT_MAX;
}

static unsigned char *buffer(size_t bytes) {
  unsigned char *p = malloc(bytes + 1);
  assert_non_null(p);
  memset(p, 0xEE, bytes + 1);
  return p;
}

static void fill(unsigned char *p, int r, size_t bytes, size_t first, unsigned round) {
  for (size_t i = 0; i < bytes; i++) p[i] = byte_of(r, first + i, round);
}

static void check(const unsigned char *p, int r, size_t bytes, size_t first, unsigned round) {
  for (size_t i = 0; i < bytes; i++)
    if (p[i] != byte_of(r, first + i, round))
      fail_msg("byte %zu from rank %d is %u, not %u", i, r, p[i], byte_of(r, first + i, round));
}

static void sync(gd_device *device) {
  assert_int_equal(device->ops->stream_sync(device->communication), GD_OK);
}

static void all_gather(gd_device *device) {
  int n = world->size, me = world->rank;
  for (unsigned s = 0; s < SIZES; s++)
    for (int in_place = 0; in_place < 2; in_place++) {
      size_t bytes = sizes[s];
      unsigned char *recv = buffer(bytes * (size_t)n), *send = in_place ? recv + (size_t)me * bytes : buffer(bytes);
      fill(send, me, bytes, 0, s);
      assert_int_equal(world->ops->all_gather(world, device->communication, send, recv, bytes), GD_OK);
      sync(device);
      for (int r = 0; r < n; r++) check(recv + (size_t)r * bytes, r, bytes, 0, s);
      if (!in_place) free(send);
      free(recv);
    }
}

static void all_gather_uneven(gd_device *device) {
  int n = world->size, me = world->rank;
  for (unsigned s = 0; s < SIZES; s++)
    for (int in_place = 0; in_place < 2; in_place++) {
      size_t each[16], at[16], total = 3;
      for (int r = 0; r < n; r++) { /* rank 1 has nothing; gaps of three bytes stay as they are */
        each[r] = r == 1 ? 0 : sizes[s] + (size_t)r;
        at[r] = total;
        total += each[r] + 3;
      }
      unsigned char *recv = buffer(total), *send = in_place ? recv + at[me] : buffer(each[me]);
      fill(send, me, each[me], 0, s);
      assert_int_equal(world->ops->all_gather_uneven(world, device->communication, send, recv, each, at), GD_OK);
      size_t kept[16];
      memcpy(kept, each, sizeof kept);
      memset(each, 0, sizeof each); /* the arrays were read before the call returned */
      sync(device);
      for (int r = 0; r < n; r++) {
        check(recv + at[r], r, kept[r], 0, s);
        for (int gap = 1; gap <= 3; gap++) assert_int_equal(recv[at[r] - (size_t)gap], 0xEE);
      }
      if (!in_place) free(send);
      free(recv);
    }
}

static void all_to_all(gd_device *device) {
  int n = world->size, me = world->rank;
  for (unsigned s = 0; s < SIZES; s++) {
    size_t bytes = sizes[s];
    unsigned char *send = buffer(bytes * (size_t)n), *recv = buffer(bytes * (size_t)n);
    fill(send, me, bytes * (size_t)n, 0, s);
    assert_int_equal(world->ops->all_to_all(world, device->communication, send, recv, bytes), GD_OK);
    sync(device);
    for (int r = 0; r < n; r++) check(recv + (size_t)r * bytes, r, bytes, (size_t)me * bytes, s);
    free(send);
    free(recv);
  }
}

/* Rank a sends b (a * 3 + b * 5) % 11 times a size: some blocks are empty, offsets run backwards. */
static size_t uneven(int a, int b, size_t size) {
  return (size_t)((a * 3 + b * 5) % 11) * size / 4;
}

static void all_to_all_uneven(gd_device *device) {
  int n = world->size, me = world->rank;
  for (unsigned s = 0; s < SIZES; s++) {
    size_t send_sizes[16], send_at[16], recv_sizes[16], recv_at[16], sent = 0, received = 0;
    for (int r = n - 1; r >= 0; r--) {
      send_sizes[r] = uneven(me, r, sizes[s]);
      recv_sizes[r] = uneven(r, me, sizes[s]);
      send_at[r] = sent;
      recv_at[r] = received;
      sent += send_sizes[r];
      received += recv_sizes[r];
    }
    unsigned char *send = buffer(sent), *recv = buffer(received);
    for (int r = 0; r < n; r++) fill(send + send_at[r], me, send_sizes[r], (size_t)r, s);
    assert_int_equal(
        world->ops->all_to_all_uneven(world, device->communication, send, send_sizes, send_at, recv, recv_sizes, recv_at),
        GD_OK);
    sync(device);
    for (int r = 0; r < n; r++) check(recv + recv_at[r], r, recv_sizes[r], (size_t)me, s);
    assert_int_equal(recv[received], 0xEE);
    free(send);
    free(recv);
  }
}

static void broadcast(gd_device *device) {
  int n = world->size, me = world->rank;
  for (unsigned s = 0; s < SIZES; s++)
    for (int root = 0; root < n; root++) {
      size_t bytes = sizes[s];
      unsigned char *mine = buffer(bytes);
      if (me == root) fill(mine, root, bytes, 0, s);
      assert_int_equal(world->ops->broadcast(world, device->communication, mine, bytes, root), GD_OK);
      sync(device);
      check(mine, root, bytes, 0, s);
      free(mine);
    }
}

/* Makes the call and spoils the list, which was read by then. */
static void exchange(gd_device *device, gd_message *list, int32_t count) {
  assert_int_equal(world->ops->exchange(world, device->communication, list, count), GD_OK);
  if (count) memset(list, 0xEE, (size_t)count * sizeof *list);
  sync(device);
}

/* The sizes of messages: the last is above what MPI sends before it is asked for. */
static const size_t lengths[] = {0, 1, 7, 8, 5000, 300000};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static void exchange_in_a_ring(gd_device *device) {
  int n = world->size, me = world->rank, next = (me + 1) % n, previous = (me + n - 1) % n;
  for (unsigned s = 0; s < LENGTHS; s++)
    for (int receive_first = 0; receive_first < 2; receive_first++) {
      unsigned char *out = buffer(lengths[s]), *in = buffer(lengths[s]);
      fill(out, me, lengths[s], 0, s);
      gd_message list[2];
      list[receive_first] = (gd_message){GD_SEND, next, out, lengths[s]};
      list[!receive_first] = (gd_message){GD_RECEIVE, previous, in, lengths[s]};
      exchange(device, list, 2);
      check(in, previous, lengths[s], 0, s);
      assert_int_equal(in[lengths[s]], 0xEE);
      free(out);
      free(in);
    }
}

/* Message k from a to b. */
static size_t length_of(int a, int b, int k) {
  return lengths[(a + 2 * b + k) % LENGTHS];
}
static unsigned round_of(int b, int k) {
  return (unsigned)(b * 3 + k);
}

/* Every rank sends all its messages to everybody, itself too, before it receives; three to each, of several sizes. */
static void exchange_with_everybody(gd_device *device) {
  enum { EACH = 3, MOST = 2 * EACH * 4 };
  int n = world->size, me = world->rank, count = 0;
  gd_message list[MOST];
  unsigned char *buffers[MOST];
  for (int k = 0; k < EACH; k++)
    for (int r = n - 1; r >= 0; r--, count++) {
      buffers[count] = buffer(length_of(me, r, k));
      fill(buffers[count], me, length_of(me, r, k), 0, round_of(r, k));
      list[count] = (gd_message){GD_SEND, r, buffers[count], length_of(me, r, k)};
    }
  for (int r = 0; r < n; r++)
    for (int k = 0; k < EACH; k++, count++) {
      buffers[count] = buffer(length_of(r, me, k));
      list[count] = (gd_message){GD_RECEIVE, r, buffers[count], length_of(r, me, k)};
    }
  exchange(device, list, count);
  for (int r = 0; r < n; r++)
    for (int k = 0; k < EACH; k++) check(buffers[EACH * n + r * EACH + k], r, length_of(r, me, k), 0, round_of(me, k));
  for (int i = 0; i < count; i++) free(buffers[i]);
}

/* The first and the last rank alone, each call twice: the calls of a pair match in order. Nobody else takes part, and no
 * message at all is none. */
static void exchange_of_two(gd_device *device) {
  int n = world->size, me = world->rank, peer = n - 1 - me;
  exchange(device, NULL, 0);
  if (n == 1 || (me != 0 && me != n - 1)) return;
  unsigned char out[2][100], in[2][100];
  for (unsigned k = 0; k < 2; k++) {
    fill(out[k], me, sizeof out[k], 0, k);
    gd_message list[] = {{GD_SEND, peer, out[k], sizeof out[k]}, {GD_RECEIVE, peer, in[k], sizeof in[k]}};
    assert_int_equal(world->ops->exchange(world, device->communication, list, 2), GD_OK);
  }
  sync(device);
  for (unsigned k = 0; k < 2; k++) check(in[k], peer, sizeof in[k], 0, k);
}

static void reductions(gd_device *device) {
  int n = world->size, me = world->rank;
  static const size_t counts[] = {0, 1, 6, 7, 8, 1000};
  for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
    size_t elems = counts[c];
    /* Small whole numbers: any order of the sum is exact. */
    float *send = malloc((elems * (size_t)n + 1) * sizeof *send), *recv = malloc((elems + 1) * sizeof *recv);
    int64_t *wide = malloc((elems + 1) * sizeof *wide);
    int32_t *narrow = malloc((elems + 1) * sizeof *narrow);
    for (size_t i = 0; i < elems * (size_t)n; i++) send[i] = (float)(me + 1) * (float)(i % 17);
    for (size_t i = 0; i < elems; i++) recv[i] = (float)((me * 7 + (int)i) % 5);
    for (size_t i = 0; i < elems; i++) wide[i] = ((int64_t)1 << 40) * (me + 1) + (int64_t)i;
    for (size_t i = 0; i < elems; i++) narrow[i] = (int32_t)i * (me == n - 1 ? 2 : 1);
    gd_stream *on = device->communication;
    assert_int_equal(world->ops->all_reduce(world, on, recv, elems, GD_FLOAT32, GD_SUM), GD_OK);
    assert_int_equal(world->ops->all_reduce(world, on, wide, elems, GD_INT64, GD_SUM), GD_OK);
    assert_int_equal(world->ops->all_reduce(world, on, narrow, elems, GD_INT32, GD_MAX), GD_OK);
    sync(device);
    for (size_t i = 0; i < elems; i++) {
      float sum = 0;
      for (int r = 0; r < n; r++) sum += (float)((r * 7 + (int)i) % 5);
      assert_true(recv[i] == sum);
      assert_true(wide[i] == ((int64_t)1 << 40) * n * (n + 1) / 2 + (int64_t)i * n);
      assert_int_equal(narrow[i], 2 * (int32_t)i);
    }
    assert_int_equal(world->ops->reduce_scatter(world, on, send, recv, elems, GD_FLOAT32, GD_SUM), GD_OK);
    sync(device);
    for (size_t i = 0; i < elems; i++)
      assert_true(recv[i] == (float)(n * (n + 1) / 2) * (float)(((size_t)me * elems + i) % 17));
    free(send);
    free(recv);
    free(wide);
    free(narrow);
  }
}

/* What the group counted since the last time is one call, and sent[r] and received[r] bytes to and from rank r, of mine none.
 */
static void counted(const char *call, const size_t *sent, const size_t *received) {
  int64_t calls, out[16], in[16];
  gd_group_take_traffic(world, &calls, out, in);
  if (calls != 1) fail_msg("%s: %d calls", call, (int)calls);
  for (int r = 0; r < world->size; r++) {
    int64_t to = r == world->rank ? 0 : (int64_t)sent[r], from = r == world->rank ? 0 : (int64_t)received[r];
    if (out[r] != to || in[r] != from)
      fail_msg("%s: %d bytes to rank %d and %d from it, not %d and %d", call, (int)out[r], r, (int)in[r], (int)to, (int)from);
  }
}

static void counted_even(const char *call, size_t bytes) {
  size_t each[16];
  for (int r = 0; r < world->size; r++) each[r] = bytes;
  counted(call, each, each);
}

static void traffic(gd_device *device) {
  int n = world->size, me = world->rank;
  gd_stream *on = device->communication;
  const gd_collectives_ops *ops = world->ops;
  enum { PART = 64 };
  static unsigned char a[16 * PART], b[16 * PART];
  size_t parts[16], in[16], at[16], alike[16], none[16] = {0};
  for (int r = 0; r < n; r++) {
    parts[r] = uneven(me, r, 8);
    in[r] = uneven(r, me, 8);
    at[r] = (size_t)r * PART;
  }
  gd_group_take_traffic(world, NULL, NULL, NULL);
  assert_int_equal(ops->all_gather(world, on, a, b, 10), GD_OK);
  counted_even("all_gather", 10);
  assert_int_equal(ops->all_gather(world, on, b + 12 * me, b, 12), GD_OK);
  counted_even("all_gather in place", 12);
  size_t sizes_of_all[16];
  for (int r = 0; r < n; r++) sizes_of_all[r] = r == 1 ? 0 : (size_t)r + 3;
  for (int r = 0; r < n; r++) alike[r] = sizes_of_all[me];
  assert_int_equal(ops->all_gather_uneven(world, on, a, b, sizes_of_all, at), GD_OK);
  counted("all_gather_uneven", alike, sizes_of_all);
  assert_int_equal(ops->all_to_all(world, on, a, b, 6), GD_OK);
  counted_even("all_to_all", 6);
  assert_int_equal(ops->all_to_all_uneven(world, on, a, parts, at, b, in, at), GD_OK);
  counted("all_to_all_uneven", parts, in);
  for (int root = 0; root < n; root++) {
    size_t from_root[16] = {0};
    from_root[root] = 9;
    for (int r = 0; r < n; r++) alike[r] = 9;
    assert_int_equal(ops->broadcast(world, on, b, 9, root), GD_OK);
    counted("broadcast", me == root ? alike : none, me == root ? none : from_root);
  }
  assert_int_equal(ops->all_reduce(world, on, b, 5, GD_INT64, GD_MAX), GD_OK);
  counted_even("all_reduce", 40);
  assert_int_equal(ops->reduce_scatter(world, on, a, b, 3, GD_FLOAT32, GD_SUM), GD_OK);
  counted_even("reduce_scatter", 12);
  /* Two messages to the next rank, and one to myself. */
  int next = (me + 1) % n, previous = (me + n - 1) % n;
  const gd_message list[] = {{GD_SEND, next, a, 7},        {GD_SEND, next, a, 4},
                             {GD_RECEIVE, previous, b, 7}, {GD_RECEIVE, previous, b + PART, 4},
                             {GD_SEND, me, a, 50},         {GD_RECEIVE, me, b + 2 * PART, 50}};
  size_t to[16] = {0}, from[16] = {0};
  to[next] = from[previous] = 11;
  assert_int_equal(ops->exchange(world, on, list, 6), GD_OK);
  counted("exchange", to, from);
  sync(device);
}

static void all_gather_joins_equal_blocks(void **state) {
  (void)state;
  everywhere(all_gather);
}
static void all_gather_uneven_joins_blocks_and_leaves_gaps(void **state) {
  (void)state;
  everywhere(all_gather_uneven);
}
static void all_to_all_transposes_equal_blocks(void **state) {
  (void)state;
  everywhere(all_to_all);
}
static void all_to_all_uneven_transposes_blocks_of_any_size(void **state) {
  (void)state;
  everywhere(all_to_all_uneven);
}
static void broadcast_works_from_every_root(void **state) {
  (void)state;
  everywhere(broadcast);
}
static void messages_go_round_a_ring_whatever_comes_first(void **state) {
  (void)state;
  everywhere(exchange_in_a_ring);
}
static void messages_of_a_pair_match_in_order_when_all_send_first(void **state) {
  (void)state;
  everywhere(exchange_with_everybody);
}
static void two_ranks_exchange_without_the_others(void **state) {
  (void)state;
  everywhere(exchange_of_two);
}
static void reductions_of_whole_numbers_are_exact(void **state) {
  (void)state;
  everywhere(reductions);
}

static void every_call_counts_its_bytes_by_peer(void **state) {
  (void)state;
  everywhere(traffic);
}

static void a_reduction_of_bfloat16_is_refused(void **state) {
  (void)state;
  uint16_t values[4] = {0};
  if (world->size == 1) return;
  assert_int_equal(world->ops->all_reduce(world, cpu.communication, values, 4, GD_BFLOAT16, GD_SUM), GD_BUG);
  assert_non_null(strstr(gd_error_text(), "bfloat16"));
  assert_int_equal(world->ops->broadcast(world, cpu.communication, values, 4, world->size), GD_BUG);
  gd_error_clear();
}

static void refused(const gd_message *list, int32_t count, const char *text) {
  assert_int_equal(world->ops->exchange(world, cpu.communication, list, count), GD_BUG);
  if (!strstr(gd_error_text(), text)) fail_msg("\"%s\" is not in \"%s\"", text, gd_error_text());
  gd_error_clear();
}

static void messages_to_oneself_must_pair_up(void **state) {
  (void)state;
  unsigned char out[8] = {0}, in[8];
  int32_t me = world->rank, n = world->size;
  const gd_message send = {GD_SEND, me, out, 8}, receive = {GD_RECEIVE, me, in, 8}, less = {GD_RECEIVE, me, in, 7};
  gd_group_take_traffic(world, NULL, NULL, NULL);
  refused((gd_message[]){send}, 1, "sends itself what it does not receive");
  refused((gd_message[]){receive}, 1, "receives from itself what it does not send");
  refused((gd_message[]){send, receive, receive}, 3, "receives from itself what it does not send");
  refused((gd_message[]){less, send}, 2, "sends itself 8 bytes and receives 7");
  refused((gd_message[]){{GD_SEND, n, out, 8}}, 1, "exchange: message 0 is with rank");
  refused((gd_message[]){send, receive, {GD_RECEIVE, -1, in, 8}}, 3, "exchange: message 2 is with rank -1");
  assert_int_equal(world->traffic.calls, 0);
}

/* The fault is found where the call runs, and raised where the stream is waited for. */
static void a_message_that_does_not_fit_names_call_and_group(void **state) {
  (void)state;
  if (world->size == 1 || world->rank > 1) return;
  unsigned char bytes[100] = {0};
  gd_device own;
  assert_int_equal(gd_device_open_cpu(&own), GD_OK);
  if (world->rank == 0) {
    const gd_message send = {GD_SEND, 1, bytes, sizeof bytes};
    assert_int_equal(world->ops->exchange(world, own.communication, &send, 1), GD_OK);
    assert_int_equal(own.ops->stream_sync(own.communication), GD_OK);
  } else {
    const gd_message receive = {GD_RECEIVE, 0, bytes, 10};
    assert_int_equal(world->ops->exchange(world, own.communication, &receive, 1), GD_OK);
    assert_int_equal(own.ops->stream_sync(own.communication), GD_RANK_FAILED);
    assert_non_null(strstr(gd_error_text(), "exchange of group world failed: MPI_ERR_TRUNCATE"));
    gd_error_clear();
  }
  own.ops->close(&own);
}

/* The same through memory beside the device: the stream goes on, with the fault, and no later call of any stream is made. */
static void a_fault_beside_the_device_holds_up_no_stream(void **state) {
  (void)state;
  if (world->size == 1) return;
  unsigned char bytes[100] = {0};
  gd_device own;
  gd_staging *staging;
  gd_group *group;
  assert_int_equal(gd_device_open_cpu(&own), GD_OK);
  assert_int_equal(gd_staging_open(&own, &staging), GD_OK);
  assert_int_equal(gd_collectives_mpi_group("world", 0, world->rank, staging, &group), GD_OK);
  gd_message message = {world->rank == 0 ? GD_SEND : GD_RECEIVE, !world->rank, bytes, world->rank == 0 ? 100 : 10};
  if (world->rank < 2) assert_int_equal(group->ops->exchange(group, own.communication, &message, 1), GD_OK);
  if (world->rank == 1) {
    assert_int_equal(own.ops->stream_sync(own.communication), GD_RANK_FAILED);
    assert_non_null(strstr(gd_error_text(), "exchange of group world failed: MPI_ERR_TRUNCATE"));
    /* Nobody else makes this one. */
    assert_int_equal(group->ops->broadcast(group, own.compute, bytes, 8, 0), GD_RANK_FAILED);
    gd_error_clear();
  } else {
    assert_int_equal(own.ops->stream_sync(own.communication), GD_OK);
  }
  group->ops->destroy(group);
  gd_staging_close(staging);
  own.ops->close(&own);
}

/* The communication stream takes the collective; compute reads the result. Without the wait the lazy device shows NaNs. */
static void a_missing_wait_for_a_collective_shows_on_the_lazy_device(void **state) {
  (void)state;
  if (world->size == 1) return;
  float *mine = malloc(64 * sizeof *mine), *all = malloc(64 * (size_t)world->size * sizeof *all), seen[2] = {0, 0};
  for (int i = 0; i < 64; i++) mine[i] = (float)(world->rank + 1);
  const gd_device_ops *ops = lazy.ops;
  for (int with_wait = 0; with_wait < 2; with_wait++) {
    gd_event *done;
    assert_int_equal(ops->event_create(&lazy, &done), GD_OK);
    assert_int_equal(world->ops->all_gather(world, lazy.communication, mine, all, 64 * sizeof *mine), GD_OK);
    assert_int_equal(ops->event_record(done, lazy.communication), GD_OK);
    if (with_wait) assert_int_equal(ops->stream_wait(lazy.compute, done), GD_OK);
    assert_int_equal(ops->copy(lazy.compute, &seen[with_wait], all, sizeof *all, GD_COPY_DEVICE_TO_HOST), GD_OK);
    assert_int_equal(ops->stream_sync(lazy.compute), GD_OK);
    sync(&lazy);
    ops->event_destroy(done);
  }
  assert_true(seen[0] != seen[0]);
  assert_true(seen[1] == 1.0f);
  free(mine);
  free(all);
}

/* Ranks 0..n-1 as a 2 x n/2 mesh: each group sums its own members only, under its own name. */
static void groups_of_a_mesh_reach_their_members_only(void **state) {
  (void)state;
  if (gd_session_ranks(session) % 2) return;
  gd_mesh grid;
  assert_int_equal(gd_mesh_init(&grid, gd_session_ranks(session), 2, 1, 1), GD_OK);
  int32_t at[GD_AXES];
  gd_mesh_coordinates(&grid, gd_session_rank(session), at);
  static const uint32_t masks[] = {GD_MASK_TENSOR, GD_MASK_DATA};
  for (int m = 0; m < 2; m++) {
    gd_group *group, *again;
    assert_int_equal(gd_session_group(session, &grid, masks[m], &group), GD_OK);
    assert_int_equal(gd_session_group(session, &grid, masks[m], &again), GD_OK);
    assert_ptr_equal(group, again);
    gd_group *other;
    assert_int_equal(gd_session_group(session, &mesh, masks[m], &other), GD_OK);
    assert_ptr_not_equal(group, other);
    assert_int_equal(other->size, mesh.size[m == 0 ? GD_AXIS_TENSOR : GD_AXIS_DATA]);
    int axis = m == 0 ? GD_AXIS_TENSOR : GD_AXIS_DATA;
    assert_int_equal(group->size, grid.size[axis]);
    assert_int_equal(group->rank, at[axis]);
    assert_string_equal(group->name, m == 0 ? "tensor" : "data");
    int32_t mine = gd_session_rank(session), all[16] = {0}, members[16], where;
    assert_int_equal(group->ops->all_gather(group, cpu.communication, &mine, all, sizeof mine), GD_OK);
    sync(&cpu);
    int32_t count = gd_mesh_group(&grid, mine, masks[m], members, &where);
    for (int32_t i = 0; i < count; i++) assert_int_equal(all[i], members[i]);
  }
}

static void the_table_is_whole(void **state) {
  (void)state;
  assert_int_equal(table_empty_collective(world->ops), -1);
  if (staged[0]) assert_int_equal(table_empty_collective(staged[0]->ops), -1);
}

int main(void) {
  if (gd_session_open(&session) != GD_OK) return 1;
  gd_session_set_watchdog(session, 60);
  gd_spec spec;
  memset(&spec, 0, sizeof spec);
  bool opened = gd_mesh_init(&mesh, gd_session_ranks(session), 1, 1, 1) == GD_OK &&
                gd_session_group(session, &mesh, GD_MASK_WORLD, &world) == GD_OK && gd_device_open_cpu(&cpu) == GD_OK &&
                gd_device_open_lazy(&lazy) == GD_OK;
  gd_device *devices[] = {&cpu, &lazy};
  for (int d = 0; d < 2 && opened && world->size > 1; d++)
    opened = gd_staging_open(devices[d], &beside[d]) == GD_OK &&
             gd_collectives_mpi_group("world", 0, world->rank, beside[d], &staged[d]) == GD_OK;
  if (!opened) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_table_is_whole),
      cmocka_unit_test(all_gather_joins_equal_blocks),
      cmocka_unit_test(all_gather_uneven_joins_blocks_and_leaves_gaps),
      cmocka_unit_test(all_to_all_transposes_equal_blocks),
      cmocka_unit_test(all_to_all_uneven_transposes_blocks_of_any_size),
      cmocka_unit_test(broadcast_works_from_every_root),
      cmocka_unit_test(messages_go_round_a_ring_whatever_comes_first),
      cmocka_unit_test(messages_of_a_pair_match_in_order_when_all_send_first),
      cmocka_unit_test(two_ranks_exchange_without_the_others),
      cmocka_unit_test(messages_to_oneself_must_pair_up),
      cmocka_unit_test(every_call_counts_its_bytes_by_peer),
      cmocka_unit_test(reductions_of_whole_numbers_are_exact),
      cmocka_unit_test(a_reduction_of_bfloat16_is_refused),
      cmocka_unit_test(a_message_that_does_not_fit_names_call_and_group),
      cmocka_unit_test(a_fault_beside_the_device_holds_up_no_stream),
      cmocka_unit_test(a_missing_wait_for_a_collective_shows_on_the_lazy_device),
      cmocka_unit_test(groups_of_a_mesh_reach_their_members_only),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  for (int d = 0; d < 2; d++) {
    if (staged[d]) staged[d]->ops->destroy(staged[d]);
    gd_staging_close(beside[d]);
  }
  cpu.ops->close(&cpu);
  lazy.ops->close(&lazy);
  gd_session_close(session);
  return failed;
}
