/* machine.h - facts of this machine and process, each found in one place: cores, instructions, folder, clock, threads, open
 * files. All local. */
#ifndef GD_COMM_MACHINE_H
#define GD_COMM_MACHINE_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/base/status.h"

/* The cores that this process may run on: its affinity mask, which mpirun, srun, taskset and containers set. All zeros where
 * the system does not tell. */
void gd_machine_affinity(cpu_set_t *out);
/* Their number, at least 1. */
int32_t gd_machine_cores(void);

/* The widest instructions that the processor and its operating system offer to the CPU kernels: "generic", "avx2", "avx512"
 * or "avx512bf16". */
const char *gd_machine_instructions(void);
/* Whether a kernel table of that name runs here. */
bool gd_machine_runs(const char *instructions);

/* The folder of this program's file, with a slash at the end; "" where it cannot be told. */
void gd_machine_folder(char *out, size_t bytes);

/* Where this process lives: two with the same place share loopback, names of sockets and devices. Host names alone may lie. */
typedef struct gd_machine_place {
  char host[64];
  char boot[40];    /* "": the system does not tell */
  uint64_t network; /* 0: the system does not tell */
} gd_machine_place;
void gd_machine_find_place(gd_machine_place *out);

/* A clock that nobody sets: for durations and deadlines. */
double gd_machine_seconds(void);
int64_t gd_machine_now_ms(void);

/* Starts a thread with all signals blocked: they are the main thread's business. `what` names it in the fault. GD_NO_MEMORY. */
GD_CHECKED gd_status gd_machine_thread(pthread_t *out, void *(*run)(void *argument), void *argument, const char *what);

/* Raises the limit of open files to what the system lets this process have: rank 0 holds a connection to every rank. Returns
 * the limit that holds now. */
int64_t gd_machine_raise_files(void);

#endif
