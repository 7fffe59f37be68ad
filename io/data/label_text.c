/* label_text.c - a text to ids, cut. */
#include "io/data/label_text.h"

#include <string.h>

gd_status gd_label_text_encode(gd_tokenizer *tokenizer, const char *text, size_t count, int64_t max_tokens, bool cut_head,
                               gd_ids *ids, bool *cut) {
  const int32_t bos = gd_tokenizer_bos(tokenizer);
  size_t first = bos >= 0, most = max_tokens ? (size_t)max_tokens : SIZE_MAX;
  ids->count = 0;
  *cut = false;
  if (first) GD_TRY(gd_ids_append(ids, &bos, 1));
  GD_TRY(gd_tokenizer_encode(tokenizer, text, count, false, ids));
  if (ids->count == first || most <= first) return gd_fail_user(GD_BAD_DATA, "no token of the text is left");
  if (ids->count > INT32_MAX && most > INT32_MAX)
    return gd_fail_user(GD_BAD_DATA, "the text has more than %d tokens", INT32_MAX);
  if (ids->count <= most) return GD_OK;
  if (cut_head) memmove(ids->ids + first, ids->ids + ids->count - (most - first), (most - first) * sizeof *ids->ids);
  ids->count = most;
  *cut = true;
  return GD_OK;
}
