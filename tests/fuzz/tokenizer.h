/* tokenizer.h - what the fuzzers of tokenizer files share. */
#ifndef GD_TESTS_FUZZ_TOKENIZER_H
#define GD_TESTS_FUZZ_TOKENIZER_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

/* Takes away what other targets left that is read beside a tokenizer's files. */
static inline void fuzz_alone(void) {
  static const char *const names[] = {"config.json", "generation_config.json", "tokenizer_config.json"};
  char path[GD_PATH_BYTES];
  for (int i = 0; i < 3; i++) {
    fuzz_must(gd_path_join(path, sizeof path, fuzz_folder(), names[i]));
    (void)unlink(path);
  }
}

/* Opens SPEC (made of `kind` and a path of the fuzzer) and, where it is accepted, encodes the text and decodes the ids.
 * `exact`: the text comes back as it was. */
static inline void fuzz_tokenizer(const char *kind, const char *path, fuzz_part text, bool exact) {
  char spec[GD_PATH_BYTES + 16];
  gd_tokenizer *tokenizer = NULL;
  gd_ids ids = {0};
  gd_bytes back = {0};
  snprintf(spec, sizeof spec, "%s%s", kind, path);
  if (!fuzz_accepted(gd_tokenizer_open(spec, &tokenizer), GD_BAD_DATA)) return;
  int32_t vocabulary = gd_tokenizer_vocabulary(tokenizer);
  fuzz_check(vocabulary > 0 && gd_tokenizer_eot(tokenizer) < vocabulary && gd_tokenizer_bos(tokenizer) < vocabulary,
             "a special token lies beyond the vocabulary");
  for (int32_t i = 0, end; (end = gd_tokenizer_end(tokenizer, i)) >= 0; i++)
    fuzz_check(end < vocabulary && gd_tokenizer_ends(tokenizer, end), "what ends a turn lies beyond the vocabulary");
  for (int special = 0; special < 2; special++) {
    ids.count = back.count = 0;
    if (!fuzz_accepted(gd_tokenizer_encode(tokenizer, text.bytes, text.count, special, &ids), GD_BAD_DATA)) continue;
    for (size_t i = 0; i < ids.count; i++)
      fuzz_check(ids.ids[i] >= 0 && ids.ids[i] < vocabulary, "an id beyond the vocabulary");
    if (!fuzz_accepted(gd_tokenizer_decode(tokenizer, -1, ids.ids, ids.count, &back), GD_BAD_DATA)) continue;
    if (exact)
      fuzz_check(back.count == text.count && memcmp(back.count ? back.bytes : "", text.bytes, text.count) == 0,
                 "decode(encode(text)) is another text");
  }
  int32_t beyond = vocabulary;
  fuzz_check(!gd_tokenizer_has(tokenizer, beyond) && !gd_tokenizer_has(tokenizer, -1),
             "an id beyond the vocabulary has a text");
  gd_tokenizer_close(tokenizer);
  gd_ids_free(&ids);
  gd_bytes_free(&back);
}

/* Whether any part of it says "unk": ids that stand for what has none do not come back as text. */
static inline bool fuzz_has_unknown(fuzz_part part) {
  return part.count && memmem(part.bytes, part.count, "unk", 3);
}

#endif
