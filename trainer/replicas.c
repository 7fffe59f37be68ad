/* replicas.c - hashes of what a rank holds, tensor by tensor, against those of the ranks that hold the same. */
#include "trainer/replicas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/base/progress.h"

enum { KINDS = 4, LANES = 4, PIECE_BYTES = 1 << 20, NAMED_RANKS = 8 };
static const char *const kind_names[KINDS] = {"", " (float32 master)", " (first moment)", " (second moment)"};

/* Of all tensors: those that the tensor axis cuts, and those of which every rank holds the whole. */
typedef struct summary {
  uint64_t cut, whole;
} summary;

static uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

/* Four chains side by side, 32 bytes at a time; the rest as if zeros followed. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t count) {
  uint64_t lane[LANES] = {hash, hash + 1, hash + 2, hash + 3}, words[LANES];
  for (size_t at = 0; at < count; at += sizeof words) {
    size_t left = count - at;
    if (left < sizeof words) memset(words, 0, sizeof words);
    memcpy(words, bytes + at, left < sizeof words ? left : sizeof words);
    for (int i = 0; i < LANES; i++) lane[i] = mix(lane[i], words[i]);
  }
  for (int i = 1; i < LANES; i++) lane[0] = mix(lane[0], lane[i]);
  return mix(lane[0], count);
}

gd_status gd_replicas_open(gd_optimizer *optimizer, gd_replicas *out) {
  int32_t tensors = optimizer->model->layout.tensor_count;
  *out = (gd_replicas){.optimizer = optimizer};
  out->mine = calloc((size_t)tensors * KINDS, sizeof *out->mine);
  out->piece = malloc(PIECE_BYTES);
  return out->mine && out->piece ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory to compare %d tensors", tensors);
}

void gd_replicas_close(gd_replicas *replicas) {
  free(replicas->mine);
  free(replicas->piece);
  *replicas = (gd_replicas){0};
}

/* ---- what this rank holds ---- */

static gd_status hash_device(gd_replicas *replicas, const void *from, size_t bytes, uint64_t *hash) {
  gd_device *device = replicas->optimizer->model->device;
  for (size_t done = 0; done < bytes;) {
    size_t count = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
    GD_TRY(device->ops->copy(device->compute, replicas->piece, (const char *)from + done, count, GD_COPY_DEVICE_TO_HOST));
    GD_TRY(device->ops->stream_sync(device->compute));
    *hash = hash_bytes(*hash, replicas->piece, count);
    gd_progress();
    done += count;
  }
  return GD_OK;
}

/* NULL: no copy of anybody's. */
static const void *place(const gd_optimizer *optimizer, int kind, const gd_segment *segment) {
  const gd_model *model = optimizer->model;
  const gd_layout *layout = &model->layout;
  int32_t bucket = layout->parameters[segment->parameter].bucket;
  if (kind == 0) return (const char *)gd_model_bucket(model, bucket) + (size_t)segment->offset * layout->shape.bytes;
  const float *const states[KINDS] = {NULL, optimizer->master, optimizer->first, optimizer->second};
  if (layout->spec.parallel.zero > 0 || !layout->buckets[bucket].trained || !states[kind]) return NULL;
  return states[kind] + gd_layout_state(layout, bucket, segment->offset);
}

static gd_status hash_all(gd_replicas *replicas, summary *out) {
  const gd_layout *layout = &replicas->optimizer->model->layout;
  memset(replicas->mine, 0, (size_t)layout->tensor_count * KINDS * sizeof *replicas->mine);
  *out = (summary){0, 0};
  for (int32_t i = 0; i < layout->segment_count; i++) {
    const gd_segment *segment = &layout->segments[i];
    for (int kind = 0; kind < KINDS; kind++) {
      const void *from = place(replicas->optimizer, kind, segment);
      uint64_t *hash = &replicas->mine[kind * layout->tensor_count + segment->tensor];
      size_t bytes = (size_t)gd_box_elements(segment->box) * (kind ? sizeof(float) : layout->shape.bytes);
      if (from) GD_TRY(hash_device(replicas, from, bytes, hash));
      bool whole = layout->parameters[segment->parameter].cut == GD_CUT_NONE;
      uint64_t *sum = whole ? &out->whole : &out->cut;
      if (from) *sum = mix(*sum, *hash);
    }
  }
  return GD_OK;
}

/* ---- against the others ---- */

/* The coordinate along which different ranks hold different parts of a tensor. */
static int32_t part_of(const gd_layout *layout, bool whole, int32_t rank) {
  int32_t coordinates[GD_AXES];
  gd_mesh_coordinates(&layout->mesh, rank, coordinates);
  return whole ? 0 : coordinates[GD_AXIS_TENSOR];
}

static bool is_whole(const gd_layout *layout, int32_t tensor) {
  for (int32_t i = 0; i < layout->segment_count; i++)
    if (layout->segments[i].tensor == tensor) return layout->parameters[layout->segments[i].parameter].cut == GD_CUT_NONE;
  return false;
}

/* Do the ranks that hold the same have the same? hashes: [ranks], `stride` apart. *odd: the first of them that has not. */
static bool agree(const gd_layout *layout, bool whole, const uint64_t *hashes, size_t stride, int32_t *odd) {
  for (int32_t r = 0; r < layout->mesh.ranks; r++)
    for (int32_t before = r - 1; before >= 0; before--) {
      if (part_of(layout, whole, before) != part_of(layout, whole, r)) continue;
      if (hashes[before * (int64_t)stride] == hashes[r * (int64_t)stride]) break; /* the ones before were compared with that */
      *odd = r;
      return false;
    }
  return true;
}

/* "0 2 3": the ranks of a part that have this hash. Returns how many. */
static int32_t name_ranks(const gd_layout *layout, bool whole, int32_t like, const uint64_t *hashes, size_t stride,
                          uint64_t hash, char out[80]) {
  int32_t count = 0;
  size_t used = 0;
  out[0] = 0;
  for (int32_t r = 0; r < layout->mesh.ranks; r++) {
    if (part_of(layout, whole, r) != part_of(layout, whole, like) || hashes[r * (int64_t)stride] != hash) continue;
    if (count < NAMED_RANKS) used += (size_t)snprintf(out + used, 80 - used, "%s%d", count ? " " : "", r);
    if (count++ == NAMED_RANKS) snprintf(out + used, 80 - used, " ...");
  }
  return count;
}

/* The hash of a tensor that most of those have that hold the part of rank `like`. */
static uint64_t most_common(const gd_layout *layout, bool whole, int32_t like, const uint64_t *hashes, size_t stride) {
  char names[80];
  uint64_t best = 0;
  int32_t most = 0;
  for (int32_t r = 0; r < layout->mesh.ranks; r++) {
    if (part_of(layout, whole, r) != part_of(layout, whole, like)) continue;
    uint64_t hash = hashes[r * (int64_t)stride];
    int32_t count = name_ranks(layout, whole, like, hashes, stride, hash, names);
    if (count > most) most = count, best = hash;
  }
  return best;
}

static gd_status fail_naming(const gd_layout *layout, const uint64_t *all, int64_t step) {
  size_t stride = (size_t)layout->tensor_count * KINDS;
  for (int32_t tensor = 0; tensor < layout->tensor_count; tensor++)
    for (int kind = 0; kind < KINDS; kind++) {
      const uint64_t *hashes = all + kind * layout->tensor_count + tensor;
      bool whole = is_whole(layout, tensor);
      int32_t odd, others = 0;
      char with[80], without[80];
      if (agree(layout, whole, hashes, stride, &odd)) continue;
      uint64_t common = most_common(layout, whole, odd, hashes, stride), other = hashes[odd * (int64_t)stride];
      for (int32_t r = 0; other == common && r < layout->mesh.ranks; r++)
        if (part_of(layout, whole, r) == part_of(layout, whole, odd)) other = hashes[r * (int64_t)stride];
      int32_t most = name_ranks(layout, whole, odd, hashes, stride, common, with);
      others = name_ranks(layout, whole, odd, hashes, stride, other, without);
      return gd_fail(
          GD_RANK_FAILED,
          "after step %lld the copies of %s%s differ: of rank%s %s it is not that of rank%s %s%s; memory or processor of "
          "one of them is faulty; nothing of it was saved, start again from the newest checkpoint",
          (long long)step, layout->tensors[tensor].name, kind_names[kind], others == 1 ? "" : "s", without,
          most == 1 ? "" : "s", with, most == others ? ", and nobody can say who is right" : "");
    }
  return gd_fail(GD_BUG, "the hashes of all tensors agree, those of the whole do not");
}

gd_status gd_replicas_check(gd_replicas *replicas, int64_t step) {
  const gd_model *model = replicas->optimizer->model;
  const gd_layout *layout = &model->layout;
  size_t ranks = (size_t)layout->mesh.ranks, bytes = (size_t)layout->tensor_count * KINDS * sizeof(uint64_t);
  summary mine;
  int32_t odd;
  if (ranks == 1) return GD_OK;
  GD_TRY(hash_all(replicas, &mine));
  summary *all = calloc(ranks, sizeof *all);
  gd_status status = all ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for %zu hashes", ranks);
  status = gd_session_agree(model->session, status);
  if (status == GD_OK) status = gd_session_all_gather(model->session, &mine, all, sizeof mine);
  bool same = status == GD_OK && agree(layout, false, &all[0].cut, 2, &odd) && agree(layout, true, &all[0].whole, 2, &odd);
  free(all);
  if (status != GD_OK || same) return status;
  uint64_t *hashes = malloc(ranks * bytes);
  status = hashes ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory for the hashes of %zu ranks", ranks);
  status = gd_session_agree(model->session, status);
  if (status == GD_OK) status = gd_session_all_gather(model->session, replicas->mine, hashes, bytes);
  if (status == GD_OK) status = gd_session_agree(model->session, fail_naming(layout, hashes, step));
  free(hashes);
  return status;
}
