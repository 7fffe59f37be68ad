/* doctor.h - gptdist-run --doctor: is this machine fit to train? Plain findings in seconds. */
#ifndef GD_LAUNCH_DOCTOR_H
#define GD_LAUNCH_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/session.h"

/* Checks cores, memory, shared memory, the folder and its disk, then starts `ranks` ranks (on `hosts`, or here when NULL) that
 * check MPI, device, the links of each pair, how fast each device is, that none listens to strangers, and that all see the
 * folder. Prints one line a finding to stdout (json: one document {"check", "good", "text"}); GD_NO when one is bad. */
GD_CHECKED gd_status gd_doctor(int64_t ranks, const char *hosts, const char *network, const char *folder, bool json);

/* One of those ranks. Collective over the job. GD_NO when its check failed. */
GD_CHECKED gd_status gd_doctor_rank(const char *folder, bool json);

/* doctor_report.c. Before the first finding: whether each is a JSON document. Local. */
void gd_doctor_report_as(bool json);
/* How many bad ones there were. Local. */
int gd_doctor_bad(void);
/* One finding on stdout; a bad one makes the doctor leave with GD_NO. Local. */
void gd_doctor_finding(bool good, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* doctor_links.c: latency and bandwidth of each pair of ranks, and the slowest against the median of its kind (on one host,
 * between hosts); no verdict. Up to GD_DOCTOR_ALONE ranks a pair has the job to itself, more ranks meet as in a tournament.
 * Rank 0 prints. Collective over the job. */
enum { GD_DOCTOR_ALONE = 16, GD_DOCTOR_ROWS = 12 };
GD_CHECKED gd_status gd_doctor_links(gd_session *session, gd_device *device, bool json);
/* Whom a rank meets in a round of `rounds` = ranks - 1 where their number is even, else ranks: -1 nobody. */
int32_t gd_doctor_opponent(int32_t rank, int32_t ranks, int32_t round);

/* doctor_devices.c: how fast each rank's device copies and multiplies, all at the same time; the slowest against the median.
 * Rank 0 prints. Collective over the job. */
GD_CHECKED gd_status gd_doctor_devices(gd_session *session, gd_device *device, bool json);

/* The middle one of count > 0 values, which are put in ascending order. Local. */
double gd_doctor_median(double *values, int64_t count);

/* doctor_ports.c: TCP ports on which this process listens for other hosts. Local. */
int32_t gd_doctor_ports(void);

#endif
