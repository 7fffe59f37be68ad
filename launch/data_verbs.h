/* data_verbs.h - the verbs of gptdist-data that need no job: each parses its own line, runs, and prints to stdout. Local. */
#ifndef GD_LAUNCH_DATA_VERBS_H
#define GD_LAUNCH_DATA_VERBS_H

#include "shard/base/status.h"

GD_CHECKED gd_status gd_data_encode(int argc, char **argv);
GD_CHECKED gd_status gd_data_decode(int argc, char **argv);
GD_CHECKED gd_status gd_data_inspect(int argc, char **argv);
GD_CHECKED gd_status gd_data_verify(int argc, char **argv);
GD_CHECKED gd_status gd_data_at(int argc, char **argv);

#endif
