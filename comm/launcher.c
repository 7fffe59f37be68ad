/* launcher.c - datagrams between the ranks of a job and the program that started it. */
#include "comm/launcher.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "comm/machine.h"

static atomic_bool gone;
/* Whether the variables are those of this job: known since the first sign. */
enum { UNKNOWN, OURS, STALE };
static atomic_int mine;

/* A first sign that is refused later than this after the start comes from another job, which inherited the variables. */
enum { FRESH_S = 10 };

/* In the abstract namespace: the path begins with a zero byte. */
static socklen_t address_of(const char *mark, struct sockaddr_un *out) {
  *out = (struct sockaddr_un){.sun_family = AF_UNIX};
  int length = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "gptdist-%s", mark);
  if (length < 0 || (size_t)length >= sizeof out->sun_path - 1) return 0;
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* Followed by the time of the start. False: the system does not tell. */
static bool name_place(char out[96]) {
  gd_machine_place place;
  gd_machine_find_place(&place);
  snprintf(out, 96, "%s-%llx@", place.boot, (unsigned long long)place.network);
  return place.boot[0] && place.network;
}

int gd_launcher_listen(const char *mark) {
  struct sockaddr_un address;
  char place[96];
  (void)unsetenv(GD_LAUNCH_PLACE);
  socklen_t bytes = address_of(mark, &address);
  int on = 1, s = bytes ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
  if (s < 0) return -1;
  if (setsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 && bind(s, (struct sockaddr *)&address, bytes) == 0) {
    if (name_place(place)) {
      size_t used = strlen(place);
      snprintf(place + used, sizeof place - used, "%.0f", gd_machine_seconds());
      (void)setenv(GD_LAUNCH_PLACE, place, 1);
    }
    return s;
  }
  close(s);
  return -1;
}

static bool is_of_this_user(struct msghdr *message) {
  const struct cmsghdr *part = CMSG_FIRSTHDR(message);
  struct ucred who;
  if (!part || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS) return false;
  memcpy(&who, CMSG_DATA(part), sizeof who);
  return who.uid == getuid();
}

bool gd_launcher_hear(int socket, gd_sign *out) {
  for (;;) {
    union {
      char bytes[CMSG_SPACE(sizeof(struct ucred))];
      struct cmsghdr aligned;
    } control;
    struct iovec data = {.iov_base = out, .iov_len = sizeof *out};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(socket, &message, 0);
    if (got < 0) return false;
    if (got != (ssize_t)sizeof *out || !is_of_this_user(&message)) continue;
    out->phase[sizeof out->phase - 1] = 0;
    return true;
  }
}

/* Where the launcher listened from its first moment until its end. */
static bool is_here(void) {
  const char *there = getenv(GD_LAUNCH_PLACE);
  char here[96];
  return there && name_place(here) && strncmp(there, here, strlen(here)) == 0;
}

/* Whether this job has just been started. */
static bool is_fresh(void) {
  const char *there = getenv(GD_LAUNCH_PLACE), *at = there ? strchr(there, '@') : NULL;
  double age = at ? gd_machine_seconds() - strtod(at + 1, NULL) : -1;
  return age > -2 && age < FRESH_S;
}

bool gd_launcher_tell(const gd_sign *sign) {
  const char *mark = getenv(GD_LAUNCH_MARK);
  struct sockaddr_un address;
  socklen_t bytes = mark ? address_of(mark, &address) : 0;
  int s = bytes ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
  if (s < 0) return false;
  ssize_t sent = sendto(s, sign, sizeof *sign, MSG_NOSIGNAL, (struct sockaddr *)&address, bytes);
  bool refused = sent < 0 && errno == ECONNREFUSED;
  close(s);
  int unknown = UNKNOWN;
  atomic_compare_exchange_strong(&mine, &unknown, sent >= 0 || is_fresh() ? OURS : STALE);
  return refused && atomic_load(&mine) == OURS && is_here() && !atomic_exchange(&gone, true);
}

bool gd_launcher_is_gone(void) {
  return atomic_load(&gone);
}
