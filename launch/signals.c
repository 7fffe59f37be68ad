/* signals.c - stopping on request: the first signal sets a flag, the same one again later ends the program. */
#include "launch/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/launcher.h"

enum { ONE_REQUEST_MS = 5000, SIGNALS = 65 };

static atomic_int first_signal;
static atomic_llong first_ms[SIGNALS]; /* when each came first; 0: it did not */
static atomic_bool is_saved;

/* Only async-signal-safe calls: lock-free atomics and clock_gettime. */
bool gd_signals_again(int number) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long long ms = 1 + (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, before = 0;
  if (atomic_compare_exchange_strong(&first_ms[number], &before, ms)) return false;
  return ms - before >= ONE_REQUEST_MS;
}

static void handle(int number) {
  int none = 0;
  atomic_compare_exchange_strong(&first_signal, &none, number);
  if (gd_signals_again(number)) _exit(atomic_load(&is_saved) ? GD_REQUEUE : 128 + number);
}

static void handle_loss(int number) {
  int none = 0;
  atomic_compare_exchange_strong(&first_signal, &none, number);
}

static gd_status install(int number, void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaction(number, &action, 0) != 0) return gd_fail(GD_IO, "sigaction(%d): %s", number, strerror(errno));
  return GD_OK;
}

gd_status gd_signals_install(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) GD_TRY(install(numbers[i], handle));
  return GD_OK;
}

gd_status gd_signals_install_losses(void) {
  static const int numbers[] = {SIGHUP, SIGPIPE};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    struct sigaction before;
    if (sigaction(numbers[i], 0, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    GD_TRY(install(numbers[i], handle_loss));
  }
  return GD_OK;
}

int gd_signals_pending(void) {
  int number = atomic_load(&first_signal);
  return number == 0 && gd_launcher_is_gone() ? SIGUSR1 : number;
}

void gd_signals_forget(void) {
  for (int i = 0; i < SIGNALS; i++) atomic_store(&first_ms[i], 0);
  atomic_store(&first_signal, 0);
}

void gd_signals_set_saved(bool saved) {
  atomic_store(&is_saved, saved);
}
