/* machine.c - what the system says about cores, instructions, clocks and limits. */
#include "comm/machine.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void gd_machine_affinity(cpu_set_t *out) {
  CPU_ZERO(out);
  if (sched_getaffinity(0, sizeof *out, out) != 0) CPU_ZERO(out);
}

int32_t gd_machine_cores(void) {
  cpu_set_t mine;
  gd_machine_affinity(&mine);
  long cores = CPU_COUNT(&mine);
  if (cores < 1) cores = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than a cpu_set_t holds */
  return cores < 1 ? 1 : (int32_t)cores;
}

/* From the widest down; the kernels that are compiled for a name use no more than is asked for here. */
static const char *const names[] = {"avx512bf16", "avx512", "avx2", "generic"};
enum { NAMES = sizeof names / sizeof names[0] };

static bool offers(int name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  switch (name) {
    case 0: return avx512 && __builtin_cpu_supports("avx512bf16");
    case 1: return avx512;
    case 2: return avx2;
    default: return true;
  }
#else
  return name == NAMES - 1;
#endif
}

const char *gd_machine_instructions(void) {
  int name = 0;
  while (!offers(name)) name++;
  return names[name];
}

bool gd_machine_runs(const char *instructions) {
  for (int name = 0; name < NAMES; name++)
    if (!strcmp(names[name], instructions)) return offers(name);
  return false;
}

void gd_machine_folder(char *out, size_t bytes) {
  ssize_t length = readlink("/proc/self/exe", out, bytes - 1);
  out[length > 0 ? length : 0] = 0;
  char *slash = strrchr(out, '/');
  if (slash) slash[1] = 0;
}

void gd_machine_find_place(gd_machine_place *out) {
  memset(out, 0, sizeof *out);
  if (gethostname(out->host, sizeof out->host - 1) != 0) snprintf(out->host, sizeof out->host, "unknown");
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
  if (file) {
    if (!fgets(out->boot, sizeof out->boot, file)) out->boot[0] = 0;
    fclose(file);
  }
  out->boot[strcspn(out->boot, "\n")] = 0;
  struct stat about;
  if (stat("/proc/self/ns/net", &about) == 0) out->network = about.st_ino;
}

double gd_machine_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int64_t gd_machine_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

gd_status gd_machine_thread(pthread_t *out, void *(*run)(void *argument), void *argument, const char *what) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(out, NULL, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error) return gd_fail(GD_NO_MEMORY, "cannot start %s: %s", what, strerror(error));
  return GD_OK;
}

int64_t gd_machine_raise_files(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (before < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}
