/* doctor.h - gptdist-run --doctor: is this machine fit to train? Plain findings in seconds. */
#ifndef GD_LAUNCH_DOCTOR_H
#define GD_LAUNCH_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/base/status.h"

/* Checks cores, memory, shared memory, the folder and its disk, then starts `ranks` ranks (on `hosts`, or here when NULL) that
 * check MPI, device, links, that none listens to strangers, and that all see the folder. Prints one line a finding to stdout
 * (json: one document {"check", "good", "text"}); GD_NO when one is bad. */
GD_CHECKED gd_status gd_doctor(int64_t ranks, const char *hosts, const char *network, const char *folder, bool json);

/* One of those ranks. Collective over the job. GD_NO when its check failed. */
GD_CHECKED gd_status gd_doctor_rank(const char *folder, bool json);

/* doctor_ports.c: TCP ports on which this process listens for other hosts. Local. */
int32_t gd_doctor_ports(void);

#endif
