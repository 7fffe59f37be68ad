/* confusion.c - counts of truths and answers. */
#include "trainer/confusion.h"

#include <stdlib.h>
#include <string.h>

int64_t gd_confusion_size(const gd_confusion *confusion) {
  return (int64_t)confusion->labels * (confusion->multiple ? 4 : confusion->labels);
}

gd_status gd_confusion_open(int32_t labels, bool multiple, gd_confusion *out) {
  *out = (gd_confusion){.labels = labels, .multiple = multiple};
  out->counts = calloc((size_t)gd_confusion_size(out) + 1, sizeof *out->counts);
  return out->counts ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory to count the answers of %d labels", labels);
}

void gd_confusion_close(gd_confusion *confusion) {
  free(confusion->counts);
  *confusion = (gd_confusion){0};
}

void gd_confusion_clear(gd_confusion *confusion) {
  confusion->documents = confusion->right = 0;
  memset(confusion->counts, 0, (size_t)gd_confusion_size(confusion) * sizeof *confusion->counts);
}

int32_t gd_confusion_answer(const float *logits, int32_t outputs) {
  int32_t best = 0;
  if (outputs == 1) return logits[0] > 0;
  for (int32_t i = 1; i < outputs; i++)
    if (logits[i] > logits[best]) best = i;
  return best;
}

void gd_confusion_add(gd_confusion *confusion, const float *labels, const float *logits, int32_t outputs) {
  bool right = true;
  if (!confusion->multiple) {
    int32_t truth = (int32_t)labels[0], answer = gd_confusion_answer(logits, outputs);
    confusion->counts[(int64_t)truth * confusion->labels + answer]++;
    right = truth == answer;
  }
  for (int32_t i = 0; confusion->multiple && i < confusion->labels; i++) {
    bool truth = labels[i] >= 0.5f, answer = logits[i] > 0;
    confusion->counts[4 * (int64_t)i + 2 * truth + answer]++;
    right = right && truth == answer;
  }
  confusion->documents++;
  confusion->right += right;
}

/* Values of all ranks that count, added, in runs that keep the memory for them small. */
static gd_status sum_run(gd_session *session, bool mine_counts, int64_t *values, int64_t count, int64_t *all) {
  int32_t ranks = gd_session_ranks(session);
  if (!mine_counts) memset(values, 0, (size_t)count * sizeof *values);
  GD_TRY(gd_session_all_gather(session, values, all, (size_t)count * sizeof *values));
  memset(values, 0, (size_t)count * sizeof *values);
  for (int32_t r = 0; r < ranks; r++)
    for (int64_t i = 0; i < count; i++) values[i] += all[r * count + i];
  return GD_OK;
}

gd_status gd_confusion_sum(gd_session *session, bool mine_counts, gd_confusion *confusion) {
  enum { RUN = 8192 };
  int64_t size = gd_confusion_size(confusion), most = size < RUN ? size : RUN,
          totals[] = {confusion->documents, confusion->right};
  int64_t *all = malloc((size_t)(gd_session_ranks(session) * (most > 2 ? most : 2)) * sizeof *all);
  gd_status status = gd_session_agree(session, all ? GD_OK : gd_fail(GD_NO_MEMORY, "no memory to add up answers"));
  if (status == GD_OK) status = sum_run(session, mine_counts, totals, 2, all);
  for (int64_t first = 0; status == GD_OK && first < size; first += most)
    status = sum_run(session, mine_counts, confusion->counts + first, size - first < most ? size - first : most, all);
  free(all);
  confusion->documents = totals[0];
  confusion->right = totals[1];
  return status;
}
