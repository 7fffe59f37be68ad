/* options.h - one way to read a command line for all programs. A program lists its own options in a small table; the options
 * of the run file (--config, --set, --lr, ...) come from the key table of io/config/config.h where the program asks for them.
 */
#ifndef GD_LAUNCH_OPTIONS_H
#define GD_LAUNCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/config/config.h"

typedef enum gd_option_type {
  GD_OPTION_FLAG,    /* value: bool *, set to true */
  GD_OPTION_TEXT,    /* value: const char **; points into argv; the last one wins */
  GD_OPTION_TEXTS,   /* value: gd_option_texts *; may be given several times */
  GD_OPTION_INTEGER, /* value: int64_t *, within minimum and maximum */
  GD_OPTION_NUMBER,  /* value: double *, within minimum and maximum */
  GD_OPTION_SECONDS, /* value: int64_t *; 90, 90s, 30m, 2h, 1d */
} gd_option_type;

enum { GD_OPTION_MAX_TEXTS = 64, GD_OPTION_MAX_OVERRIDES = 128 };

typedef struct gd_option_texts {
  int count;
  const char *text[GD_OPTION_MAX_TEXTS];
} gd_option_texts;

/* Ends with a NULL name. */
typedef struct gd_option {
  const char *name; /* "--resume"; "-n" is fine too */
  gd_option_type type;
  void *value;
  const char *argument; /* word for --help: "N", "DIR"; NULL for a flag */
  const char *help;
  double minimum, maximum; /* of integers and numbers; both 0 = no limit */
} gd_option;

typedef struct gd_program {
  const char *name;    /* "gptdist-train" */
  const char *purpose; /* one line */
  const char *usage;   /* "--config F [--set section.key=value]... [--resume auto|none|DIR]" */
  const char *more;    /* further lines of --help, or NULL */
  const gd_option *options;
  bool takes_config;      /* --config, --set, the other spellings of keys */
  bool takes_arguments;   /* words that are no options; all words after "--" are arguments */
  bool stops_at_argument; /* the first such word ends the options (gptdist-data VERB ...) */
} gd_program;

typedef struct gd_command_line {
  const char *config; /* --config, or NULL */
  int overrides;
  gd_config_override override[GD_OPTION_MAX_OVERRIDES];
  bool json; /* --json */
  int arguments;
  char **argument; /* [arguments], into argv, whose order the parser changes */
} gd_command_line;

/* Reads argv. --help, --help-config and --version print to stdout and set *done: the program then leaves with 0. A key's texts
 * are kept in static memory, so one command line a process. GD_USAGE names the option, what was found and the nearest valid
 * one. Local; every rank of a job reads the same line. */
GD_CHECKED gd_status gd_options_parse(const gd_program *program, int argc, char **argv, gd_command_line *out, bool *done);

/* gd_config_load with the command line's file and overrides. GD_USAGE when --config is needed and missing. */
GD_CHECKED gd_status gd_options_load(const gd_command_line *line, bool config_needed, gd_spec *out, gd_config_origins *origins);

#endif
