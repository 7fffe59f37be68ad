/* launcher.h - signs of life of a job's ranks for the program that started it, where both are on one host. The ranks watch each
 * other; where all of them are stopped, nobody else is left to notice. A sign is a datagram to a name of Linux' abstract
 * namespace, made of the mark of the start: no file, no port. Only processes of the same user are heard. A sign that the
 * system refuses says in turn that who started the job is gone. Local. */
#ifndef GD_COMM_LAUNCHER_H
#define GD_COMM_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>

/* The variable of the environment by which gptdist-run marks a start. */
#define GD_LAUNCH_MARK "GPTDIST_LAUNCH"
/* And by which it says where it listens, and since when: names of sockets are those of a host and its network namespace. */
#define GD_LAUNCH_PLACE "GPTDIST_LAUNCH_PLACE"

/* And how many starts of this job came before this one. */
#define GD_LAUNCH_RESTART "GPTDIST_RESTART"

typedef struct gd_sign {
  int32_t rank;
  int32_t watchdog_ms; /* the deadline that holds now; 0: none, or this rank gives no more signs */
  int32_t leaves;      /* 1: because the job cannot go on */
  int64_t step;
  char phase[16];
} gd_sign;

/* By who starts the job, before it does: a socket, -1 where there can be none. Sets GD_LAUNCH_PLACE, or takes it away. */
int gd_launcher_listen(const char *mark);
/* The next sign that has come; false: there is none. */
bool gd_launcher_hear(int socket, gd_sign *out);

/* By a rank, about once a second. Dropped where nobody listens; true where somebody did, at this place, and is gone: the first
 * time. Any thread. */
bool gd_launcher_tell(const gd_sign *sign);
/* Whether that was so. */
bool gd_launcher_is_gone(void);

#endif
