/* control.c - the wire of the control channel: rank 0 listens, the others connect, framed messages go both ways. */
#include "comm/control.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "comm/machine.h"

/* The first bytes of a connection. */
typedef struct hello {
  uint8_t key[GD_CONTROL_KEY_BYTES];
  int32_t rank;
} hello;

static socklen_t address_bytes(const struct sockaddr *address) {
  return address->sa_family == AF_INET6 ? (socklen_t)sizeof(struct sockaddr_in6) : (socklen_t)sizeof(struct sockaddr_in);
}

static void address_text(const struct sockaddr_storage *address, char *out, size_t bytes) {
  char host[INET6_ADDRSTRLEN] = "?";
  const struct sockaddr_in *v4 = (const void *)address;
  const struct sockaddr_in6 *v6 = (const void *)address;
  bool is6 = address->ss_family == AF_INET6;
  inet_ntop(address->ss_family, is6 ? (const void *)&v6->sin6_addr : (const void *)&v4->sin_addr, host, sizeof host);
  snprintf(out, bytes, "%s port %d", host, ntohs(is6 ? v6->sin6_port : v4->sin_port));
}

static int open_socket(int family) {
  return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Listens on one address with a port of the system's choice and adds it to the invitation. */
static bool listen_on(const struct sockaddr *address, gd_control_listener *listener, gd_control_invitation *out) {
  if (listener->count == GD_CONTROL_ADDRESSES) return false;
  int s = open_socket(address->sa_family);
  if (s < 0) return false;
  struct sockaddr_storage bound = {0};
  socklen_t bytes = address_bytes(address);
  memcpy(&bound, address, bytes);
  if (bind(s, (struct sockaddr *)&bound, bytes) != 0 || listen(s, 1024) != 0 ||
      getsockname(s, (struct sockaddr *)&bound, &bytes) != 0) {
    close(s);
    return false;
  }
  listener->sockets[listener->count++] = s;
  out->address[out->addresses++] = bound;
  return true;
}

/* Whether `wanted`, names of interfaces and IPv4 networks ("eth1,10.0.0.0/8"), holds an address. NULL holds all. */
static bool is_chosen(const char *wanted, const struct ifaddrs *at) {
  if (!wanted || !*wanted) return true;
  const struct in_addr *address = &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
  for (const char *p = wanted; *p; p += strspn(p, ",")) {
    char item[64] = "", *slash;
    size_t length = strcspn(p, ",");
    struct in_addr network;
    snprintf(item, sizeof item, "%.*s", (int)(length < sizeof item ? length : sizeof item - 1), p);
    p += length;
    if (strcmp(item, at->ifa_name) == 0) return true;
    if (at->ifa_addr->sa_family != AF_INET || !(slash = strchr(item, '/'))) continue;
    *slash = 0;
    int bits = atoi(slash + 1);
    if (bits < 1 || bits > 32 || inet_pton(AF_INET, item, &network) != 1) continue;
    if (((ntohl(address->s_addr) ^ ntohl(network.s_addr)) >> (32 - bits)) == 0) return true;
  }
  return false;
}

/* Addresses that another host may reach: IPv4 before IPv6, no loopback, no link-local (it needs an interface to go with it). */
static void listen_on_interfaces(int family, const struct ifaddrs *list, gd_control_listener *listener,
                                 gd_control_invitation *out) {
  for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
    if (!at->ifa_addr || at->ifa_addr->sa_family != family) continue;
    if (!(at->ifa_flags & IFF_UP) || (at->ifa_flags & IFF_LOOPBACK)) continue;
    if (!is_chosen(getenv("GPTDIST_NETWORK"), at)) continue;
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)at->ifa_addr)->sin6_addr))
      continue;
    listen_on(at->ifa_addr, listener, out);
  }
}

gd_status gd_control_listen(bool one_host, gd_control_listener *listener, gd_control_invitation *out) {
  memset(listener, 0, sizeof *listener);
  memset(out, 0, sizeof *out);
  if (getrandom(out->key, sizeof out->key, 0) != (ssize_t)sizeof out->key)
    return gd_fail(GD_IO, "no random bytes for the control channel: %s", strerror(errno));
  if (one_host) {
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listen_on((struct sockaddr *)&loopback, listener, out);
  } else {
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0) return gd_fail(GD_IO, "cannot list the network addresses of this host: %s", strerror(errno));
    listen_on_interfaces(AF_INET, list, listener, out);
    listen_on_interfaces(AF_INET6, list, listener, out);
    freeifaddrs(list);
  }
  const char *network = getenv("GPTDIST_NETWORK");
  if (listener->count == 0 && !one_host && network && *network)
    return gd_fail_user(GD_USAGE,
                        "GPTDIST_NETWORK (gptdist-run --network): no address of this host is in \"%s\", expected names of "
                        "interfaces or IPv4 networks, as in eth1 or 10.0.0.0/8",
                        network);
  if (listener->count == 0) return gd_fail(GD_IO, "cannot listen for the control channel on any address: %s", strerror(errno));
  return GD_OK;
}

/* Waits until the socket can do `events`; false at the deadline. */
static bool wait_for(int s, short events, int64_t deadline_ms) {
  for (;;) {
    int64_t left = deadline_ms - gd_machine_now_ms();
    if (left <= 0) return false;
    struct pollfd entry = {.fd = s, .events = events};
    int ready = poll(&entry, 1, left > 1000 ? 1000 : (int)left);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

static bool read_whole(int s, void *to, size_t bytes, int64_t deadline_ms) {
  char *at = to;
  while (bytes) {
    ssize_t got = recv(s, at, bytes, 0);
    if (got == 0) return false;
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN || !wait_for(s, POLLIN, deadline_ms)) return false;
      continue;
    }
    at += got;
    bytes -= (size_t)got;
  }
  return true;
}

static bool write_whole(int s, const void *from, size_t bytes, int64_t deadline_ms) {
  const char *at = from;
  while (bytes) {
    ssize_t put = send(s, at, bytes, MSG_NOSIGNAL);
    if (put < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN || !wait_for(s, POLLOUT, deadline_ms)) return false;
      continue;
    }
    at += put;
    bytes -= (size_t)put;
  }
  return true;
}

static void prepare(int s) {
  int on = 1;
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

bool gd_control_same_key(const uint8_t *a, const uint8_t *b) {
  unsigned different = 0;
  for (int i = 0; i < GD_CONTROL_KEY_BYTES; i++) different |= (unsigned)(a[i] ^ b[i]);
  return different == 0;
}

/* Connections that have not proved the key yet wait side by side, so that one which says nothing keeps nobody. */
enum { STRANGERS = 1024, STRANGER_MS = 10000 };

typedef struct guest {
  int socket;
  size_t have; /* bytes of `in` */
  hello in;
  int64_t deadline_ms;
} guest;

typedef struct admission {
  const gd_control_invitation *invitation;
  int32_t ranks, came;
  int *sockets;
  guest *guests; /* in the order in which they came */
  int32_t count, room;
  struct pollfd *entries; /* listeners, then guests */
} admission;

/* Reads what is there. 1: the whole hello, 0: more is to come, -1: hung up. */
static int hear(guest *g) {
  while (g->have < sizeof g->in) {
    ssize_t got = recv(g->socket, (char *)&g->in + g->have, sizeof g->in - g->have, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return -1;
    g->have += (size_t)got;
  }
  return 1;
}

/* Takes a connection in if it knows the key; a stranger is dropped without a word. */
static void admit(admission *a, const guest *g) {
  int32_t welcome = g->in.rank; /* fits where nothing was sent before */
  if (!gd_control_same_key(g->in.key, a->invitation->key) || welcome < 1 || welcome >= a->ranks || a->sockets[welcome] >= 0 ||
      send(g->socket, &welcome, sizeof welcome, MSG_NOSIGNAL) != (ssize_t)sizeof welcome) {
    close(g->socket);
    return;
  }
  a->sockets[welcome] = g->socket;
  a->came++;
}

/* Hears all guests; those stay who have more to say and time left for it. */
static void hear_all(admission *a) {
  int32_t kept = 0;
  int64_t now = gd_machine_now_ms();
  for (int32_t i = 0; i < a->count; i++) {
    guest *g = &a->guests[i];
    int heard = hear(g);
    if (heard > 0)
      admit(a, g);
    else if (heard < 0 || now >= g->deadline_ms)
      close(g->socket);
    else
      a->guests[kept++] = *g;
  }
  a->count = kept;
}

static void drop_oldest(admission *a) {
  close(a->guests[0].socket);
  memmove(a->guests, a->guests + 1, (size_t)--a->count * sizeof *a->guests);
}

/* Everybody who waits at a listener becomes a guest. Where there is no room or no descriptor the guest who has kept silent for
 * the longest time makes way. */
static gd_status greet(admission *a, int listener) {
  for (;;) {
    if (a->count == a->room) hear_all(a);
    if (a->count == a->room) drop_oldest(a);
    int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s >= 0) {
      prepare(s);
      a->guests[a->count++] = (guest){.socket = s, .deadline_ms = gd_machine_now_ms() + STRANGER_MS};
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return GD_OK;
    int fault = errno;
    hear_all(a);
    if (a->count == 0) /* the connection stays in the queue, and would be found there again and again */
      return gd_fail(GD_IO,
                     "rank 0 has taken in %d of %d ranks and cannot open one more connection: %s (it may hold %lld files; "
                     "raise the limit: ulimit -n, LimitNOFILE, or PropagateResourceLimits of SLURM)",
                     a->came, a->ranks, strerror(fault), (long long)sysconf(_SC_OPEN_MAX));
    drop_oldest(a);
  }
}

static gd_status missing_ranks(const int *sockets, int32_t ranks, int32_t timeout_ms) {
  char list[128] = "";
  for (int32_t r = 1; r < ranks; r++) {
    size_t used = strlen(list);
    if (sockets[r] < 0 && used + 16 < sizeof list) snprintf(list + used, sizeof list - used, " %d", r);
  }
  return gd_fail(GD_RANK_FAILED, "ranks%s did not reach rank 0's control channel within %d s", list, timeout_ms / 1000);
}

/* Until all have come, or the deadline. */
static gd_status admit_all(admission *a, const gd_control_listener *listener, int32_t timeout_ms) {
  int64_t deadline = gd_machine_now_ms() + timeout_ms;
  while (a->came < a->ranks) {
    int64_t left = deadline - gd_machine_now_ms();
    if (left <= 0) return missing_ranks(a->sockets, a->ranks, timeout_ms);
    for (int32_t i = 0; i < listener->count; i++) a->entries[i] = (struct pollfd){.fd = listener->sockets[i], .events = POLLIN};
    for (int32_t i = 0; i < a->count; i++)
      a->entries[listener->count + i] = (struct pollfd){.fd = a->guests[i].socket, .events = POLLIN};
    (void)poll(a->entries, (nfds_t)(listener->count + a->count), left > 1000 ? 1000 : (int)left);
    for (int32_t i = 0; i < listener->count; i++) GD_TRY(greet(a, listener->sockets[i]));
    hear_all(a);
  }
  return GD_OK;
}

gd_status gd_control_accept(gd_control_listener *listener, const gd_control_invitation *invitation, int32_t ranks,
                            int32_t timeout_ms, int *sockets) {
  admission a = {.invitation = invitation, .ranks = ranks, .came = 1, .sockets = sockets, .room = STRANGERS + ranks};
  for (int32_t r = 0; r < ranks; r++) sockets[r] = -1;
  a.guests = malloc((size_t)a.room * sizeof *a.guests);
  a.entries = malloc(((size_t)a.room + GD_CONTROL_ADDRESSES) * sizeof *a.entries);
  gd_status status = a.guests && a.entries ? admit_all(&a, listener, timeout_ms)
                                           : gd_fail(GD_NO_MEMORY, "no memory to take in %d ranks", ranks);
  for (int32_t i = 0; i < a.count; i++) close(a.guests[i].socket);
  for (int32_t i = 0; i < listener->count; i++) close(listener->sockets[i]);
  listener->count = 0;
  free(a.guests);
  free(a.entries);
  return status;
}

/* One address, at most three seconds. */
static bool try_connect(const struct sockaddr_storage *address, const hello *out, int64_t deadline_ms, int *result) {
  int64_t soon = gd_machine_now_ms() + 3000;
  if (soon > deadline_ms) soon = deadline_ms;
  int s = open_socket(address->ss_family);
  if (s < 0) return false;
  int error = 0;
  socklen_t bytes = sizeof error;
  if (connect(s, (const struct sockaddr *)address, address_bytes((const struct sockaddr *)address)) != 0) {
    if (errno != EINPROGRESS || !wait_for(s, POLLOUT, soon)) error = errno ? errno : ETIMEDOUT;
    if (!error) getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &bytes);
  }
  int32_t welcome = -1;
  prepare(s);
  if (error || !write_whole(s, out, sizeof *out, soon) || !read_whole(s, &welcome, sizeof welcome, soon + 7000) ||
      welcome != out->rank) {
    close(s);
    if (error) errno = error;
    return false;
  }
  *result = s;
  return true;
}

gd_status gd_control_connect(const gd_control_invitation *invitation, int32_t rank, int32_t timeout_ms, int *out) {
  int64_t deadline = gd_machine_now_ms() + timeout_ms;
  hello mine = {.rank = rank};
  memcpy(mine.key, invitation->key, sizeof mine.key);
  char tried[512] = "";
  for (int32_t i = 0; i < invitation->addresses; i++) {
    errno = 0;
    if (try_connect(&invitation->address[i], &mine, deadline, out)) return GD_OK;
    char text[96];
    address_text(&invitation->address[i], text, sizeof text);
    size_t used = strlen(tried);
    snprintf(tried + used, sizeof tried - used, "%s%s: %s", used ? "; " : "", text, errno ? strerror(errno) : "no answer");
  }
  return gd_fail(GD_RANK_FAILED, "cannot reach rank 0's control channel (%s)", tried[0] ? tried : "rank 0 does not listen");
}

int gd_control_reserve(int connection, gd_contact *out) {
  socklen_t bytes = sizeof *out;
  memset(out, 0, sizeof *out);
  if (getsockname(connection, &out->any, &bytes) != 0 || bytes > sizeof *out) {
    memset(out, 0, sizeof *out);
    return -1;
  }
  if (out->any.sa_family == AF_INET6)
    out->v6.sin6_port = 0;
  else
    out->v4.sin_port = 0;
  int s = open_socket(out->any.sa_family);
  if (s >= 0 && bind(s, &out->any, bytes) == 0 && getsockname(s, &out->any, &bytes) == 0) return s;
  if (s >= 0) close(s);
  memset(out, 0, sizeof *out);
  return -1;
}

bool gd_control_answer(int reserved) {
  return reserved >= 0 && listen(reserved, 1024) == 0;
}

int gd_control_call(const gd_contact *contact) {
  if (contact->any.sa_family == 0) return -1;
  int s = open_socket(contact->any.sa_family);
  if (s < 0) return -1;
  prepare(s);
  if (connect(s, &contact->any, address_bytes(&contact->any)) == 0 || errno == EINPROGRESS) return s;
  close(s);
  return -1;
}

bool gd_message_send(int s, gd_message_type type, const void *body, size_t bytes, bool may_drop) {
  if (s < 0 || bytes > GD_CONTROL_BODY_BYTES) return false;
  unsigned char frame[sizeof(gd_message_header) + GD_CONTROL_BODY_BYTES];
  gd_message_header header = {(uint32_t)type, (uint32_t)bytes};
  memcpy(frame, &header, sizeof header);
  if (bytes) memcpy(frame + sizeof header, body, bytes);
  bytes += sizeof header;
  ssize_t put;
  do put = send(s, frame, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (put < 0 && errno == EINTR);
  if (put < 0 && errno != EAGAIN) return false;
  if (put < 0 && may_drop) return true;
  size_t done = put > 0 ? (size_t)put : 0;
  return write_whole(s, frame + done, bytes - done, gd_machine_now_ms() + 2000);
}

int gd_message_read(int s, gd_message_reader *reader, gd_message_header *header, const void **body) {
  /* The buffer never holds more than one message: exactly its header, then exactly its body are asked for. */
  for (;;) {
    size_t want = sizeof *header;
    bool in_body = reader->have >= want;
    if (in_body) {
      memcpy(header, reader->buffer, sizeof *header);
      if (header->bytes > GD_CONTROL_BODY_BYTES || header->type < GD_MESSAGE_BEAT || header->type > GD_MESSAGE_BYE) return -1;
      want += header->bytes;
    }
    if (in_body && reader->have == want) {
      *body = reader->buffer + sizeof *header;
      reader->have = 0;
      return 1;
    }
    ssize_t got = recv(s, reader->buffer + reader->have, want - reader->have, MSG_DONTWAIT);
    if (got == 0) return -1;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    reader->have += (size_t)got;
  }
}
