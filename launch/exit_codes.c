/* exit_codes.c - the table of exit codes; README's table is the same, which tests/unit/test_help.sh compares. */
#include "launch/exit_codes.h"

#include <stdio.h>

#include "shard/base/status.h"

static const struct {
  gd_status code;
  const char *meaning;
} codes[] = {
    {GD_OK, "done"},
    {GD_NO, "a check ran and the answer is no: checkpoints differ, a machine has a fault, a rehearsed fault never came"},
    {GD_USAGE, "command line or configuration; a path that a person named is not there"},
    {GD_BAD_DATA, "bad data, tokenizer or checkpoint; a file that another file names is missing"},
    {GD_BUG, "an error of gptdist itself; also: ranks made different collective calls"},
    {GD_NO_MEMORY, "out of memory, or the device is lost"},
    {GD_IO, "the system refused a read, a write or a lock"},
    {GD_REQUEUE, "checkpointed on request: the same line again goes on"},
    {GD_RANK_FAILED, "a rank or the exchange between ranks failed"},
    {GD_LOSS_DIVERGED, "the loss went bad and stayed bad"},
};
enum { CODES = sizeof codes / sizeof codes[0] };

void gd_exit_codes_print(void) {
  puts("exit codes of all gptdist programs:");
  for (int i = 0; i < CODES; i++) printf("  %-9d %s\n", codes[i].code, codes[i].meaning);
  printf("  %-9s %s\n", "128 + N", "ended by signal N, work may be unsaved");
}
