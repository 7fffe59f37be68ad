/* bpe.h - byte-pair merging by rank (Sennrich et al. 2016): of all neighbouring pairs the one with the lowest rank is
 * merged first, the leftmost of equals, until no pair has a rank. */
#ifndef GD_IO_TOKENIZER_BPE_H
#define GD_IO_TOKENIZER_BPE_H

#include "io/tokenizer/internal.h"
#include "io/tokenizer/split.h"

typedef struct gd_bpe gd_bpe;

/* An empty vocabulary with room for ids 0 .. vocabulary - 1. */
GD_CHECKED gd_status gd_bpe_open(int32_t vocabulary, gd_bpe **out);
void gd_bpe_close(void *bpe); /* a gd_bpe; as the kind table wants it */

/* Gives an id its bytes. `findable`: gd_bpe_find and merging by concatenation see it (special tokens are not). An id that has
 * bytes already is GD_BAD_DATA. */
GD_CHECKED gd_status gd_bpe_set(gd_bpe *bpe, int32_t id, const char *bytes, size_t count, bool findable);
/* The id of exactly these bytes, -1: none. */
int32_t gd_bpe_find(const gd_bpe *bpe, const char *bytes, size_t count);
/* The bytes of an id; NULL where it has none. */
const char *gd_bpe_bytes(const gd_bpe *bpe, int32_t id, size_t *count);

/* left right -> merged, tried in the order of rank. The first rank given to a pair stays. */
GD_CHECKED gd_status gd_bpe_add_merge(gd_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged);
/* Adds every pair of tokens whose concatenation is a token, with the rank that rank[id] (NULL: the id itself) gives that. */
GD_CHECKED gd_status gd_bpe_add_all_merges(gd_bpe *bpe, const uint32_t *rank);

/* All merges, by rank, then left and right id; the caller frees *out. GD_NO_MEMORY. */
typedef struct gd_bpe_pair {
  uint32_t rank;
  int32_t left, right;
} gd_bpe_pair;
GD_CHECKED gd_status gd_bpe_pairs(const gd_bpe *bpe, gd_bpe_pair **out, size_t *count);

/* Byte-level encoding: pieces by `pattern`, bytes, merges. whole_first: a piece that is a token is taken as it is. `unknown`:
 * the id for a byte that is no token, -1: a fault. Called once, after the vocabulary is complete. */
GD_CHECKED gd_status gd_bpe_finish(gd_bpe *bpe, const char *pattern, bool whole_first, int32_t unknown);
/* The same with several steps, whose splitters become the vocabulary's, and text brought to NFC first. */
enum { GD_BPE_STEPS = 16 };
GD_CHECKED gd_status gd_bpe_finish_steps(gd_bpe *bpe, const gd_split_step *steps, int32_t count, bool nfc, bool whole_first,
                                         int32_t unknown);

/* Merges ids[count] in place; *count becomes the new length. Safe from several threads. */
GD_CHECKED gd_status gd_bpe_merge(const gd_bpe *bpe, int32_t *ids, size_t *count);

/* The functions of the kind table; state is a gd_bpe. */
GD_CHECKED gd_status gd_bpe_encode(void *state, bool first, const char *bytes, size_t count, gd_ids *out);
GD_CHECKED gd_status gd_bpe_decode(const void *state, int32_t previous, const int32_t *ids, size_t count, gd_bytes *out);

#endif
