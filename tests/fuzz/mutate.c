/* mutate.c - small changes to an input, from a seed. */
#include "tests/fuzz/mutate.h"

#include <ctype.h>
#include <string.h>

#include "shard/base/rng.h"

static const char *const words[] = {"0",
                                    "-1",
                                    "1",
                                    "255",
                                    "65536",
                                    "2147483647",
                                    "2147483648",
                                    "-2147483648",
                                    "4294967296",
                                    "9007199254740993",
                                    "9223372036854775807",
                                    "18446744073709551616",
                                    "1e309",
                                    "-0.0",
                                    "1e-320",
                                    "null",
                                    "true",
                                    "NaN",
                                    "",
                                    "\"",
                                    "\\",
                                    "{",
                                    "}",
                                    "[",
                                    "]",
                                    ",",
                                    ":",
                                    "\n",
                                    "\r\n",
                                    " ",
                                    "\t",
                                    "\\u0000",
                                    "\\ud800",
                                    "\xff\xfe",
                                    "\xed\xa0\x80",
                                    "\xf4\x90\x80\x80",
                                    "\xef\xbb\xbf",
                                    "\n%%\n",
                                    "&a *a",
                                    "%s%n",
                                    "../../",
                                    "/"};
enum { WORDS = sizeof words / sizeof *words };

typedef struct work {
  gd_rng rng;
  uint64_t drawn;
  char *bytes;
  size_t count, most;
} work;

static size_t draw(work *w, size_t below) {
  return below ? gd_rng_word(&w->rng, w->drawn++) % below : 0;
}

/* Replaces bytes[at .. at + gone) by run[more]; what does not fit is not done. */
static void splice(work *w, size_t at, size_t gone, const char *run, size_t more) {
  char copy[256];
  if (more > sizeof copy || w->count - gone + more > w->most) return;
  if (more) memcpy(copy, run, more);
  memmove(w->bytes + at + more, w->bytes + at + gone, w->count - at - gone);
  if (more) memcpy(w->bytes + at, copy, more);
  w->count += more - gone;
}

/* The digits at or behind a random place; 0: none. */
static size_t find_number(work *w, size_t *at) {
  size_t end = *at = draw(w, w->count);
  while (*at < w->count && !isdigit((unsigned char)w->bytes[*at])) ++*at;
  for (end = *at; end < w->count && isdigit((unsigned char)w->bytes[end]);) end++;
  return end - *at;
}

static void change(work *w, const char *other, size_t other_size) {
  size_t at = draw(w, w->count + 1), left = w->count - at, run = draw(w, left < 32 ? left + 1 : 32), number;
  const char *word = words[draw(w, WORDS)];
  switch (draw(w, 10)) {
    case 0:
      if (left) w->bytes[at] = (char)(w->bytes[at] ^ (1 << draw(w, 8)));
      return;
    case 1:
      if (left) w->bytes[at] = (char)draw(w, 256);
      return;
    case 2: splice(w, at, run, "", 0); return;
    case 3: splice(w, at, 0, w->bytes + at, run); return;
    case 4: splice(w, at, 0, word, strlen(word)); return;
    case 5: splice(w, at, run, word, strlen(word)); return;
    case 6:
    case 7:
      number = find_number(w, &at);
      word = words[draw(w, 15)];
      if (number) splice(w, at, number, word, strlen(word));
      return;
    case 8: {
      size_t from = draw(w, other_size + 1), length = draw(w, other_size - from < 64 ? other_size - from + 1 : 64);
      splice(w, at, draw(w, 2) ? run : 0, other + from, length);
      return;
    }
    default:
      if (draw(w, 4) == 0)
        w->count = at; /* cut off */
      else
        for (size_t i = 0; i < 4 && i < left; i++) w->bytes[at + i] = (char)(run & 1 ? 0xff : 0); /* a length, a count */
  }
}

void fuzz_mutate(uint64_t seed, const char *bytes, size_t size, const char *other, size_t other_size, char *out, size_t most,
                 size_t *count) {
  work w = {.rng = gd_rng_make(seed, GD_RNG_DATA, 0, 0, 0), .bytes = out, .count = size < most ? size : most, .most = most};
  if (w.count) memcpy(out, bytes, w.count);
  for (size_t changes = 1 + draw(&w, 8); changes; changes--) change(&w, other, other_size);
  *count = w.count;
}
