/* data_verbs.h - the verbs of gptdist-data: each parses its own line, runs, and prints to stdout. Local, but for prepare, which
 * is collective over the job. */
#ifndef GD_LAUNCH_DATA_VERBS_H
#define GD_LAUNCH_DATA_VERBS_H

#include "shard/base/status.h"

/* Set where a verb has printed its fault already. */
extern bool gd_data_told;

GD_CHECKED gd_status gd_data_prepare(int argc, char **argv);
GD_CHECKED gd_status gd_data_encode(int argc, char **argv);
GD_CHECKED gd_status gd_data_decode(int argc, char **argv);
GD_CHECKED gd_status gd_data_inspect(int argc, char **argv);
GD_CHECKED gd_status gd_data_verify(int argc, char **argv);
GD_CHECKED gd_status gd_data_at(int argc, char **argv);

#endif
