/* options.c - the command line of every program, read by one table. */
#include "launch/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/session.h"
#include "launch/exit_codes.h"
#include "launch/help_json.h"

/* --help, --version, ... : every program has them. */
static const char *const common_flags[] = {"--help", "-h", "--help-config", "--version", "--json"};
enum { COMMON_FLAGS = sizeof common_flags / sizeof common_flags[0], OPTION_BYTES = 64, KEY_BYTES = 96 };

static void print_line(void *context, const char *line) {
  fprintf(context, "%s\n", line);
}

static void print_help(const gd_program *program) {
  printf("%s - %s\n\nusage: %s %s\n\n", program->name, program->purpose, program->name, program->usage);
  char left[OPTION_BYTES * 2];
  for (const gd_option *o = program->options; o && o->name; o++) {
    snprintf(left, sizeof left, "%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
    printf("  %-28s %s\n", left, o->help);
  }
  if (program->takes_config) {
    printf("  %-28s %s\n", "--config FILE", "the run file (YAML)");
    printf("  %-28s %s\n", "--set SECTION.KEY=VALUE", "one key of the run file; may be repeated, the last one wins");
    printf("  %-28s %s\n", "--lr X, --seed N, ...", "other spellings of keys; --help-config lists them");
  }
  printf("  %-28s %s\n", "--json", "one JSON document a line in place of text (docs/formats.md)");
  printf("  %-28s %s\n", "--help, --version", "");
  printf("  %-28s %s\n", "--help-config", "every key of a run file with type, range, unit and default");
  if (program->more) printf("\n%s\n", program->more);
  putchar('\n');
  gd_exit_codes_print();
}

static void consider(const char *found, const char *candidate, int *best, const char **nearest) {
  int d = gd_config_distance(found, candidate);
  if (d < *best) *best = d, *nearest = candidate;
}

static gd_status unknown_option(const gd_program *program, const char *name) {
  int best = INT_MAX;
  const char *nearest = 0;
  for (const gd_option *o = program->options; o && o->name; o++) consider(name, o->name, &best, &nearest);
  for (int i = 0; i < COMMON_FLAGS; i++) consider(name, common_flags[i], &best, &nearest);
  if (program->takes_config) {
    const gd_config_alias *aliases;
    int n = gd_config_aliases(&aliases);
    for (int i = 0; i < n; i++) consider(name, aliases[i].option, &best, &nearest);
    consider(name, "--config", &best, &nearest);
    consider(name, "--set", &best, &nearest);
    /* --optimizer.lr=3 was meant as --set optimizer.lr=3. */
    const gd_config_key *key = strncmp(name, "--", 2) == 0 ? gd_config_find(name + 2) : 0;
    if (key) return gd_fail_user(GD_USAGE, "%s: unknown option; did you mean \"--set %s=...\"?", name, key->name);
  }
  if (nearest && gd_config_is_near(name, best)) {
    return gd_fail_user(GD_USAGE, "%s: unknown option; did you mean \"%s\"?", name, nearest);
  }
  return gd_fail_user(GD_USAGE, "%s: unknown option; --help lists all options", name);
}

/* Where the words are taken from. */
typedef struct cursor {
  int argc, next;
  char **argv;
  char name[OPTION_BYTES]; /* of the option under way, without =VALUE */
  const char *attached;    /* text after '=', or NULL */
} cursor;

static gd_status take_value(cursor *c, const char **out) {
  if (c->attached) {
    *out = c->attached;
  } else if (c->next < c->argc) {
    *out = c->argv[c->next++];
  } else {
    return gd_fail_user(GD_USAGE, "%s: found nothing after it, expected a value", c->name);
  }
  return GD_OK;
}

static gd_status no_value(const cursor *c) {
  if (!c->attached) return GD_OK;
  return gd_fail_user(GD_USAGE, "%s: found the value \"%.100s\", expected none", c->name, c->attached);
}

static gd_status add_override(gd_command_line *line, const char *option, const char *key, const char *value) {
  if (line->overrides == GD_OPTION_MAX_OVERRIDES) {
    return gd_fail_user(GD_USAGE, "%s: found more than %d keys on the command line; a run file takes more", option,
                        GD_OPTION_MAX_OVERRIDES);
  }
  line->override[line->overrides++] = (gd_config_override){option, key, value};
  return GD_OK;
}

static gd_status take_set(cursor *c, gd_command_line *line) {
  static char keys[GD_OPTION_MAX_OVERRIDES][KEY_BYTES];
  const char *text = 0;
  GD_TRY(take_value(c, &text));
  const char *equals = strchr(text, '=');
  if (!equals || equals == text) {
    return gd_fail_user(GD_USAGE, "--set: found \"%.100s\", expected section.key=value", text);
  }
  if ((size_t)(equals - text) >= KEY_BYTES) return gd_fail_user(GD_USAGE, "--set: \"%.60s...\": unknown key", text);
  if (line->overrides == GD_OPTION_MAX_OVERRIDES) return add_override(line, "--set", "", "");
  char *key = keys[line->overrides];
  snprintf(key, KEY_BYTES, "%.*s", (int)(equals - text), text);
  return add_override(line, "--set", key, equals + 1);
}

static gd_status take_alias(cursor *c, const gd_config_alias *alias, gd_command_line *line) {
  const char *value = alias->value;
  if (value) {
    GD_TRY(no_value(c));
  } else {
    GD_TRY(take_value(c, &value));
  }
  return add_override(line, alias->option, alias->key, value);
}

static gd_status bad_number(const cursor *c, const gd_option *o, const char *text, const char *kind) {
  if (o->minimum != 0 || o->maximum != 0) {
    return gd_fail_user(GD_USAGE, "%s: found \"%.100s\", expected %s from %.15g to %.15g", c->name, text, kind, o->minimum,
                        o->maximum);
  }
  return gd_fail_user(GD_USAGE, "%s: found \"%.100s\", expected %s", c->name, text, kind);
}

static gd_status store_number(const cursor *c, const gd_option *o, const char *text) {
  char *end = 0;
  errno = 0;
  bool limited = o->minimum != 0 || o->maximum != 0;
  if (o->type == GD_OPTION_NUMBER) {
    double value = strtod(text, &end);
    bool bad = end == text || *end || !isfinite(value) || (limited && (value < o->minimum || value > o->maximum));
    if (bad) return bad_number(c, o, text, "a number");
    *(double *)o->value = value;
    return GD_OK;
  }
  long long value = strtoll(text, &end, 10), unit = 1;
  if (end == text || errno || isspace((unsigned char)*text)) return bad_number(c, o, text, "an integer");
  if (o->type == GD_OPTION_SECONDS) {
    if (*end && !end[1]) {
      unit = *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 0;
      end++;
    }
    if (!unit || *end || value < 0 || value > INT64_MAX / unit) return bad_number(c, o, text, "a time (90, 30m, 2h, 1d)");
  } else if (*end || (limited && ((double)value < o->minimum || (double)value > o->maximum))) {
    return bad_number(c, o, text, "an integer");
  }
  *(int64_t *)o->value = value * unit;
  return GD_OK;
}

static gd_status take_own(cursor *c, const gd_option *o) {
  if (o->type == GD_OPTION_FLAG) {
    GD_TRY(no_value(c));
    *(bool *)o->value = true;
    return GD_OK;
  }
  const char *text = 0;
  GD_TRY(take_value(c, &text));
  if (o->type == GD_OPTION_TEXT) {
    *(const char **)o->value = text;
    return GD_OK;
  }
  if (o->type == GD_OPTION_TEXTS) {
    gd_option_texts *texts = o->value;
    if (texts->count == GD_OPTION_MAX_TEXTS) {
      return gd_fail_user(GD_USAGE, "%s: found more than %d of them", c->name, GD_OPTION_MAX_TEXTS);
    }
    texts->text[texts->count++] = text;
    return GD_OK;
  }
  return store_number(c, o, text);
}

/* The flags that every program has. *taken: it was one of them. */
static gd_status take_common(const gd_program *program, cursor *c, gd_command_line *out, bool *taken, bool *done) {
  *taken = false;
  for (int i = 0; i < COMMON_FLAGS; i++) *taken = *taken || strcmp(c->name, common_flags[i]) == 0;
  if (!*taken) return GD_OK;
  GD_TRY(no_value(c));
  if (strcmp(c->name, "--json") == 0) {
    out->json = true;
    return GD_OK;
  }
  *done = true;
  for (int i = c->next; i < c->argc; i++) out->json = out->json || strcmp(c->argv[i], "--json") == 0; /* read no more */
  gd_launch_environment environment;
  gd_session_environment(&environment);
  if (environment.rank != 0) return GD_OK; /* once a job */
  if (strcmp(c->name, "--version") == 0) {
    printf(out->json ? "{\"program\": \"%s\", \"version\": \"%s\"}\n" : "%s %s\n", program->name, GPTDIST_VERSION);
  } else if (strcmp(c->name, "--help-config") == 0 && out->json) {
    return gd_help_config_json();
  } else if (strcmp(c->name, "--help-config") == 0) {
    gd_config_print_help(print_line, stdout);
  } else {
    print_help(program);
  }
  return GD_OK;
}

static gd_status take_option(const gd_program *program, cursor *c, gd_command_line *out, bool *done) {
  bool taken;
  for (const gd_option *o = program->options; o && o->name; o++) {
    if (strcmp(o->name, c->name) == 0) return take_own(c, o);
  }
  GD_TRY(take_common(program, c, out, &taken, done));
  if (taken) return GD_OK;
  if (program->takes_config) {
    if (strcmp(c->name, "--config") == 0) return take_value(c, &out->config);
    if (strcmp(c->name, "--set") == 0) return take_set(c, out);
    const gd_config_alias *alias = gd_config_find_alias(c->name);
    if (alias) return take_alias(c, alias, out);
  }
  return unknown_option(program, c->name);
}

gd_status gd_options_parse(const gd_program *program, int argc, char **argv, gd_command_line *out, bool *done) {
  memset(out, 0, sizeof *out);
  *done = false;
  cursor c = {.argc = argc, .next = 1, .argv = argv};
  bool only_arguments = false;
  out->argument = argv + 1; /* arguments are moved to the front; their number never passes the words read */
  while (c.next < argc && !*done) {
    char *word = argv[c.next++];
    if (!only_arguments && strcmp(word, "--") == 0) {
      only_arguments = true;
      continue;
    }
    bool negative_number = word[0] == '-' && isdigit((unsigned char)word[1]);
    if (only_arguments || word[0] != '-' || !word[1] || negative_number) {
      if (!program->takes_arguments) return gd_fail_user(GD_USAGE, "\"%.100s\": found a word that belongs to no option", word);
      out->argument[out->arguments++] = word;
      only_arguments = only_arguments || program->stops_at_argument;
      continue;
    }
    size_t length = word[1] == '-' ? strcspn(word, "=") : strlen(word);
    if (length >= OPTION_BYTES) return gd_fail_user(GD_USAGE, "%.60s...: unknown option; --help lists all options", word);
    snprintf(c.name, sizeof c.name, "%.*s", (int)length, word);
    c.attached = word[length] == '=' ? word + length + 1 : 0;
    GD_TRY(take_option(program, &c, out, done));
  }
  return GD_OK;
}

gd_status gd_options_load(const gd_command_line *line, bool config_needed, gd_spec *out, gd_config_origins *origins) {
  if (config_needed && !line->config)
    return gd_fail_user(GD_USAGE, "--config: found none, expected --config FILE (a run file)");
  return gd_config_load(line->config, line->override, line->overrides, out, origins);
}
