/* deal.c - who computes what of a step: equal shares of neighbouring sequences, in rounds of batch.micro. */
#include "shard/deal.h"

gd_deal gd_deal_share(const gd_spec *spec, int32_t data_ranks, int32_t data_rank) {
  int32_t share = spec->batch.global / data_ranks;
  return (gd_deal){(int64_t)data_rank * share, share};
}

int32_t gd_deal_rounds(const gd_spec *spec, int32_t data_ranks) {
  int32_t share = spec->batch.global / data_ranks;
  return (share + spec->batch.micro - 1) / spec->batch.micro;
}

gd_deal gd_deal_round(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, int32_t round) {
  gd_deal share = gd_deal_share(spec, data_ranks, data_rank);
  int32_t first = round * spec->batch.micro, left = share.sequences - first;
  return (gd_deal){share.first_sequence + first, left < spec->batch.micro ? left : spec->batch.micro};
}

int32_t gd_deal_piece(int32_t data_ranks, int32_t data_rank) {
  int32_t first = 0, pieces = data_ranks;
  for (; pieces % 2 == 0; data_rank /= 2) {
    pieces /= 2;
    if (data_rank % 2) first += pieces;
  }
  return first + data_rank;
}

int gd_deal_nodes(const gd_spec *spec, gd_deal part, gd_tree_node nodes[GD_TREE_MAX_NODES]) {
  int64_t k = spec->parallel.time_blocks;
  return gd_tree_nodes(part.first_sequence * k, (part.first_sequence + part.sequences) * k, nodes);
}

int gd_deal_sums(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, gd_tree_node nodes[GD_TREE_MAX_NODES]) {
  if (spec->numerics == GD_NUMERICS_INVARIANT) return gd_deal_nodes(spec, gd_deal_share(spec, data_ranks, data_rank), nodes);
  nodes[0] = (gd_tree_node){data_rank, 1};
  return 1;
}

int32_t gd_deal_slots(const gd_spec *spec, int32_t data_ranks, int32_t data_rank, int32_t micro) {
  if (spec->numerics == GD_NUMERICS_FAST) return 1;
  gd_deal share = gd_deal_share(spec, data_ranks, data_rank);
  int64_t k = spec->parallel.time_blocks;
  return gd_tree_counter_slots(share.first_sequence * k, (share.first_sequence + share.sequences) * k, micro * k);
}
