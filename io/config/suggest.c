/* suggest.c - which valid word a misspelt one was meant to be. */
#include <string.h>
#include <strings.h>

#include "io/config/config.h"
#include "io/config/internal.h"

enum { WORD_BYTES = 64 };

static int least(int a, int b) {
  return a < b ? a : b;
}

/* Optimal string alignment, letters compared without case. */
int gd_config_distance(const char *a, const char *b) {
  int rows[3][WORD_BYTES + 1];
  int la = (int)strlen(a), lb = (int)strlen(b);
  if (la > WORD_BYTES || lb > WORD_BYTES) return 2 * WORD_BYTES;
  int *before = rows[0], *previous = rows[1], *current = rows[2];
  for (int j = 0; j <= lb; j++) previous[j] = j;
  for (int i = 1; i <= la; i++) {
    current[0] = i;
    for (int j = 1; j <= lb; j++) {
      bool same = strncasecmp(a + i - 1, b + j - 1, 1) == 0;
      current[j] = least(least(previous[j], current[j - 1]) + 1, previous[j - 1] + !same);
      if (i > 1 && j > 1 && strncasecmp(a + i - 1, b + j - 2, 1) == 0 && strncasecmp(a + i - 2, b + j - 1, 1) == 0) {
        current[j] = least(current[j], before[j - 2] + 1);
      }
    }
    int *spare = before;
    before = previous;
    previous = current;
    current = spare;
  }
  return previous[lb];
}

bool gd_config_is_near(const char *found, int distance) {
  int length = (int)strlen(found);
  return distance <= (length <= 4 ? 1 : length <= 8 ? 2 : length / 3);
}

/* "--micro-batch-size" against "micro_batch_size". */
static bool is_alias_word(const char *option, const char *word) {
  for (option += 2; *option && *word; option++, word++) {
    if (*option != *word && !(*option == '-' && *word == '_')) return false;
  }
  return !*option && !*word;
}

static const char *member_of(const char *name) {
  const char *dot = strchr(name, '.');
  return dot ? dot + 1 : name;
}

/* A right word in the wrong section, or one of the spellings of the command line. */
static const char *moved_key(const char *name) {
  const char *member = member_of(name);
  const gd_config_key *keys;
  int n = gd_config_keys(&keys);
  for (int i = 0; i < n; i++) {
    if (strcmp(member_of(keys[i].name), member) == 0 && strcmp(keys[i].name, name) != 0) {
      /* Words that several sections have (kind, interval_steps) say nothing about which was meant. */
      int homes = 0;
      for (int k = 0; k < n; k++) homes += strcmp(member_of(keys[k].name), member) == 0;
      if (homes == 1) return keys[i].name;
    }
  }
  const gd_config_alias *aliases;
  int m = gd_config_aliases(&aliases);
  for (int i = 0; i < m; i++) {
    if (is_alias_word(aliases[i].option, member)) return aliases[i].key;
  }
  return 0;
}

const char *gd_config_nearest_key(const char *name) {
  const gd_config_key *keys;
  int n = gd_config_keys(&keys), best = 2 * WORD_BYTES;
  const char *nearest = 0;
  for (int i = 0; i < n; i++) {
    int distance = gd_config_distance(name, keys[i].name);
    if (distance < best) best = distance, nearest = keys[i].name;
  }
  if (nearest && best <= 2 && gd_config_is_near(name, best)) return nearest;
  const char *moved = moved_key(name);
  if (moved) return moved;
  if (nearest && gd_config_is_near(name, best)) return nearest;
  /* A misspelt word in a wrong section. */
  for (int i = 0; i < n; i++) {
    int distance = gd_config_distance(member_of(name), member_of(keys[i].name));
    if (distance == 1 && strlen(member_of(name)) > 4) return keys[i].name;
  }
  return 0;
}

const char *gd_config_nearest_choice(const gd_key_choice *choices, const char *found) {
  int best = 2 * WORD_BYTES;
  const char *nearest = 0;
  for (; choices->name; choices++) {
    int distance = gd_config_distance(found, choices->name);
    if (distance < best) best = distance, nearest = choices->name;
  }
  return nearest && gd_config_is_near(found, best) ? nearest : 0;
}

gd_status gd_config_unknown(const char *where, const char *name) {
  const char *nearest = gd_config_nearest_key(name);
  const char *between = *where ? ": " : "";
  if (nearest) return gd_fail_user(GD_USAGE, "%s%s%s: unknown key; did you mean \"%s\"?", where, between, name, nearest);
  return gd_fail_user(GD_USAGE, "%s%s%s: unknown key; --help-config lists all keys", where, between, name);
}
