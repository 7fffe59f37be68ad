/* mutate.h - small changes to an input, from a seed. */
#ifndef GD_TESTS_FUZZ_MUTATE_H
#define GD_TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* out[*count], at most `most` bytes: bytes[size] with one to eight changes: bits turned, bytes and runs replaced, inserted,
 * taken away, doubled, numbers made extreme, a run of `other` put in, the end cut off. The same seed gives the same bytes. */
void fuzz_mutate(uint64_t seed, const char *bytes, size_t size, const char *other, size_t other_size, char *out, size_t most,
                 size_t *count);

#endif
