/* help_json.h - --help-config --json: the key table for programs. */
#ifndef GD_LAUNCH_HELP_JSON_H
#define GD_LAUNCH_HELP_JSON_H

#include "shard/base/status.h"

/* Prints one document a key to stdout: key, type, minimum and maximum (numbers), choices, unit, default, help, options (other
 * spellings). GD_NO_MEMORY. */
GD_CHECKED gd_status gd_help_config_json(void);

#endif
