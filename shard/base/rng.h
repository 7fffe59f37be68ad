/* rng.h - counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011, section 3.3). A number is a pure function of (seed, purpose, site, layer, step) and an element index, so no
 * result depends on how many ranks or threads drew it, and backward recomputes a mask in place of storing it. */
#ifndef GD_SHARD_BASE_RNG_H
#define GD_SHARD_BASE_RNG_H

#include <stdint.h>

/* The words of the generator are the same functions on the host and in CUDA kernels. */
#ifdef __CUDACC__
#define GD_RNG_EVERYWHERE __host__ __device__
#else
#define GD_RNG_EVERYWHERE
#endif

typedef enum gd_rng_purpose {
  GD_RNG_WEIGHTS = 1,  /* initial weights: step = hash of the tensor's name, index = logical element */
  GD_RNG_DROPOUT = 2,  /* masks: site = gd_dropout_site, index = global element */
  GD_RNG_DATA = 3,     /* sample order and mixture */
  GD_RNG_SAMPLING = 4, /* text generation: layer = which of several texts, step = token position */
} gd_rng_purpose;

typedef struct gd_rng {
  uint32_t key[2];    /* the seed */
  uint32_t stream[2]; /* purpose, site, layer; step */
} gd_rng;

/* purpose < 256, site < 256, layer < 65536, step < 2^32. */
static inline gd_rng gd_rng_make(uint64_t seed, gd_rng_purpose purpose, uint32_t site, uint32_t layer, uint64_t step) {
  gd_rng rng = {{(uint32_t)seed, (uint32_t)(seed >> 32)}, {((uint32_t)purpose << 24) | (site << 16) | layer, (uint32_t)step}};
  return rng;
}

/* The four 32-bit words of counter `index4`; element i of a stream is word i % 4 of counter i / 4. */
GD_RNG_EVERYWHERE static inline void gd_rng_words(const gd_rng *rng, uint64_t index4, uint32_t out[4]) {
  uint32_t c0 = (uint32_t)index4, c1 = (uint32_t)(index4 >> 32), c2 = rng->stream[0], c3 = rng->stream[1];
  uint32_t k0 = rng->key[0], k1 = rng->key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

GD_RNG_EVERYWHERE static inline uint32_t gd_rng_word(const gd_rng *rng, uint64_t index) {
  uint32_t words[4];
  gd_rng_words(rng, index / 4, words);
  return words[index % 4];
}

/* [0, 1) with 24 bits. */
static inline float gd_rng_uniform(const gd_rng *rng, uint64_t index) {
  return (float)(gd_rng_word(rng, index) >> 8) * 0x1p-24f;
}

/* Standard normal: inverse of the normal distribution (Wichura, algorithm AS 241, 1988) at a 32-bit uniform. */
float gd_rng_normal(const gd_rng *rng, uint64_t index);

/* The 32-bit threshold of a dropout probability: an element is dropped when its word is below it. */
static inline uint32_t gd_rng_dropout_threshold(float probability) {
  return (uint32_t)((double)probability * 4294967296.0);
}

#endif
