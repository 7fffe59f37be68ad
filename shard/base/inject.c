/* inject.c - reads `kind@key=value,...`, and counts who comes by. */
#include "shard/base/inject.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/base/log.h"

bool gd_inject_armed;

enum { PHASE = 1, SECONDS = 2, TENSOR = 4, PATH = 8, MS = 16, CALL = 32, FAULT = 64, UNLIMITED = 128 };

static const struct {
  const char *name;
  int keys; /* of its own */
} kinds[GD_INJECT_KINDS] = {{"kill", PHASE},
                            {"stop", PHASE},
                            {"stall", PHASE | SECONDS},
                            {"nan", TENSOR | UNLIMITED},
                            {"flip", TENSOR},
                            {"corrupt-shard", PATH},
                            {"disk-full", PATH | UNLIMITED},
                            {"slow-disk", PATH | MS | UNLIMITED},
                            {"error", PATH | CALL | FAULT}};

static const char help[] =
    "--inject KIND@KEY=VALUE,... (may be repeated) makes a fault happen, to rehearse what a job does about it, in the first\n"
    "start of a job that gptdist-run --max-restarts starts again. Keys of every kind:\n"
    "rank=N (every one), step=N (the first step in which it strikes; any), steps=N (for so many), nth=N (the N-th time), "
    "times=N\n"
    "(so often). Kinds, with their own keys:\n"
    "  kill           this process dies: phase=NAME (forward)\n"
    "  stop           this process gets SIGSTOP: phase=NAME (forward)\n"
    "  stall          this rank does nothing for seconds=N: phase=NAME (forward)\n"
    "  nan            a NaN in this rank's gradient in one step: tensor=NAME (the first that is summed)\n"
    "  flip           a bit of a weight in this rank's memory, once, after the step: tensor=NAME (the first)\n"
    "  corrupt-shard  a bit of what a read of a token shard brings, once: path=TEXT (*.h5 outside the run directory)\n"
    "  disk-full      writes give ENOSPC: path=TEXT (the run directory)\n"
    "  slow-disk      each write and fsync takes ms=N longer: path=TEXT (the run directory)\n"
    "  error          a call fails, once: call=write|fsync|rename|unlink|mkdir|read, errno=EIO|ENOSPC|...|N (EIO),\n"
    "                 path=TEXT (the run directory)";

static const char *const phases[] = {"load",   "verify", "data",       "forward", "head",       "backward", "reduce", "vote",
                                     "update", "gather", "validation", "save",    "checkpoint", "report",   0};
static const char *const calls[] = {"write", "fsync", "rename", "unlink", "mkdir", "read", 0};
static const struct {
  const char *name;
  int64_t number;
} errors[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC},       {"EDQUOT", EDQUOT}, {"EROFS", EROFS},
              {"EACCES", EACCES}, {"EPERM", EPERM},         {"ENOENT", ENOENT}, {"EMFILE", EMFILE},
              {"ESTALE", ESTALE}, {"ETIMEDOUT", ETIMEDOUT}, {"EINTR", EINTR},   {0, 0}};

static gd_injection list[GD_INJECT_MOST];
static int32_t count;
static int64_t my_rank = -1;
static const char *my_directory = "";
static atomic_int_fast64_t current_step, seen[GD_INJECT_MOST], struck[GD_INJECT_MOST];
static atomic_int_fast64_t first_step[GD_INJECT_MOST]; /* in which each struck first */
static int64_t told[GD_INJECT_MOST];

/* ---- reading ---- */

static gd_status bad(const char *text, const char *found, const char *expected) {
  char names[128] = "";
  for (int i = 0; i < GD_INJECT_KINDS; i++)
    snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", kinds[i].name);
  return gd_fail_user(GD_USAGE, "--inject %.200s: found \"%.60s\", expected %s; KIND@KEY=VALUE,... of the kinds %s (--help)",
                      text, found, expected, names);
}

static bool is_one_of(const char *const *words, const char *word) {
  for (int i = 0; words[i]; i++)
    if (!strcmp(words[i], word)) return true;
  return false;
}

static bool take_number(const char *text, int64_t least, int64_t *out) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (end == text || *end || errno || value < least) return false;
  *out = value;
  return true;
}

static bool take_error(const char *text, int64_t *out) {
  for (int i = 0; errors[i].name; i++) {
    if (strcmp(errors[i].name, text) != 0) continue;
    *out = errors[i].number;
    return true;
  }
  return take_number(text, 1, out);
}

static gd_status take_word(gd_injection *f, const char *key, const char *value, char *out, size_t size) {
  if (*value && (size_t)snprintf(out, size, "%s", value) < size) return GD_OK;
  char expected[64];
  snprintf(expected, sizeof expected, "a %s", key);
  return bad(f->text, value, expected);
}

static gd_status take_pair(gd_injection *f, const char *key, const char *value) {
  const struct {
    const char *name;
    int of; /* a kind's own key; 0: every kind's */
    int64_t least;
    int64_t *out;
  } numbers[] = {{"rank", 0, 0, &f->rank}, {"step", 0, 1, &f->step},   {"steps", 0, 1, &f->steps},
                 {"nth", 0, 1, &f->nth},   {"times", 0, 1, &f->times}, {"seconds", SECONDS, 1, &f->seconds},
                 {"ms", MS, 1, &f->ms}};
  int own = kinds[f->kind].keys;
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    if (strcmp(numbers[i].name, key) != 0 || (numbers[i].of && !(own & numbers[i].of))) continue;
    if (take_number(value, numbers[i].least, numbers[i].out)) return GD_OK;
    return bad(f->text, value, numbers[i].least ? "a number from 1" : "a number from 0");
  }
  if ((own & TENSOR) && !strcmp(key, "tensor")) return take_word(f, key, value, f->where, sizeof f->where);
  if ((own & PATH) && !strcmp(key, "path")) return take_word(f, key, value, f->where, sizeof f->where);
  if ((own & PHASE) && !strcmp(key, "phase")) {
    if (is_one_of(phases, value)) return take_word(f, key, value, f->where, sizeof f->where);
    return bad(f->text, value,
               "a phase (load, verify, data, forward, head, backward, reduce, vote, update, gather, validation, save, "
               "checkpoint, report)");
  }
  if ((own & CALL) && !strcmp(key, "call")) {
    if (is_one_of(calls, value)) return take_word(f, key, value, f->call, sizeof f->call);
    return bad(f->text, value, "write, fsync, rename, unlink, mkdir or read");
  }
  if ((own & FAULT) && !strcmp(key, "errno")) return take_error(value, &f->error) ? GD_OK : bad(f->text, value, "an errno");
  return bad(f->text, key, "a key of this kind");
}

static gd_status take_pairs(gd_injection *f, char *pairs) {
  char *rest = NULL;
  for (char *pair = strtok_r(pairs, ",", &rest); pair; pair = strtok_r(NULL, ",", &rest)) {
    char *equals = strchr(pair, '=');
    if (!equals) return bad(f->text, pair, "key=value");
    *equals = 0;
    GD_TRY(take_pair(f, pair, equals + 1));
  }
  int own = kinds[f->kind].keys;
  if (!f->step && (f->kind == GD_INJECT_NAN || f->steps < INT64_MAX)) f->step = 1;
  if ((own & SECONDS) && !f->seconds) return bad(f->text, f->text, "seconds=S");
  if ((own & MS) && !f->ms) return bad(f->text, f->text, "ms=N");
  if ((own & CALL) && !f->call[0]) return bad(f->text, f->text, "call=NAME");
  if ((own & PHASE) && !f->where[0]) snprintf(f->where, sizeof f->where, "forward");
  return GD_OK;
}

gd_status gd_inject_add(const char *text) {
  char copy[GD_INJECT_TEXT_BYTES];
  if (count == GD_INJECT_MOST) return gd_fail_user(GD_USAGE, "--inject: found more than %d of them", GD_INJECT_MOST);
  if (strlen(text) >= sizeof copy) return bad(text, text, "a shorter text");
  gd_injection f = {.rank = -1, .steps = INT64_MAX, .nth = 1, .times = 1, .error = EIO};
  memcpy(f.text, text, strlen(text) + 1);
  memcpy(copy, f.text, sizeof copy);
  char *at = strchr(copy, '@');
  if (at) *at = 0;
  int kind = 0;
  while (kind < GD_INJECT_KINDS && strcmp(kinds[kind].name, copy) != 0) kind++;
  if (kind == GD_INJECT_KINDS) return bad(text, copy, "a kind of fault");
  f.kind = (gd_inject_kind)kind;
  if (kinds[kind].keys & UNLIMITED) f.times = INT64_MAX;
  if (f.kind == GD_INJECT_NAN) f.steps = 1;
  GD_TRY(take_pairs(&f, at ? at + 1 : copy + strlen(copy)));
  list[count++] = f;
  return GD_OK;
}

/* ---- striking ---- */

void gd_inject_arm(int32_t rank, const char *directory) {
  my_rank = rank;
  my_directory = directory;
  for (int32_t i = 0; i < count; i++) gd_inject_armed = gd_inject_armed || list[i].rank < 0 || list[i].rank == rank;
}

void gd_inject_set_step(int64_t step) {
  atomic_store(&current_step, step);
}

static bool is_there(const gd_injection *f, const char *where, const char *call) {
  if (kinds[f->kind].keys & PHASE) return !strcmp(f->where, where);
  if (call && strcmp(f->call, call) != 0) return false;
  if (f->where[0]) return strstr(where, f->where) != NULL;
  bool of_run = strncmp(where, my_directory, strlen(my_directory)) == 0;
  if (f->kind != GD_INJECT_CORRUPT_SHARD) return of_run;
  const char *dot = strrchr(where, '.');
  return !of_run && dot && !strcmp(dot, ".h5");
}

bool gd_inject_strikes(int32_t i) {
  const gd_injection *f = &list[i];
  int64_t step = atomic_load(&current_step);
  if (f->rank >= 0 && f->rank != my_rank) return false;
  if (step < f->step || (f->step && step - f->step >= f->steps)) return false;
  int64_t number = atomic_fetch_add(&seen[i], 1) + 1;
  if (number < f->nth || number - f->nth >= f->times) return false;
  int_fast64_t none = 0;
  atomic_compare_exchange_strong(&first_step[i], &none, step);
  atomic_fetch_add(&struck[i], 1);
  return true;
}

const gd_injection *gd_inject_strike(gd_inject_kind kind, const char *where, const char *call) {
  for (int32_t i = 0; gd_inject_armed && i < count; i++)
    if (list[i].kind == kind && is_there(&list[i], where, call) && gd_inject_strikes(i)) return &list[i];
  return NULL;
}

void gd_inject_tell(void) {
  for (int32_t i = 0; i < count; i++) {
    int64_t now = atomic_load(&struck[i]);
    if (now > 0 && told[i] == 0)
      gd_log(GD_LOG_WARNING, "--inject %s: struck on rank %lld, step %lld", list[i].text, (long long)my_rank,
             (long long)atomic_load(&first_step[i]));
    told[i] = now;
  }
}

int32_t gd_inject_count(void) {
  return count;
}

const gd_injection *gd_inject_at(int32_t i) {
  return &list[i];
}

bool gd_inject_struck(int32_t i) {
  return atomic_load(&struck[i]) > 0;
}

const char *gd_inject_help(void) {
  return help;
}
