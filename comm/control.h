/* control.h - the wire of the control channel: rank 0 listens, every other rank connects once, and short framed messages go
 * both ways. Only bytes live here; what they mean is session.c and watchdog.c. Private to comm/. */
#ifndef GD_COMM_CONTROL_H
#define GD_COMM_CONTROL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shard/base/status.h"

enum { GD_CONTROL_ADDRESSES = 8, GD_CONTROL_KEY_BYTES = 32, GD_CONTROL_BODY_BYTES = 4096 };

/* What rank 0 tells its peers over MPI: where it listens, and a random key made for this run. All peers run the same
 * program on the same kind of machine, so structs travel as they are. */
typedef struct gd_control_invitation {
  uint8_t key[GD_CONTROL_KEY_BYTES];
  int32_t addresses; /* 0: rank 0 could not listen */
  struct sockaddr_storage address[GD_CONTROL_ADDRESSES];
} gd_control_invitation;

typedef struct gd_control_listener {
  int32_t count;
  int sockets[GD_CONTROL_ADDRESSES];
} gd_control_listener;

/* Rank 0: listens on the loopback address when every rank is on this host, else on each of the host's own addresses that
 * GPTDIST_NETWORK names (unset: all). GD_IO, GD_USAGE. */
GD_CHECKED gd_status gd_control_listen(bool one_host, gd_control_listener *listener, gd_control_invitation *out);
/* Rank 0: takes in ranks 1 .. ranks-1, each of which must prove the key, and closes the listener. All who connect
 * are heard side by side: a stranger costs nobody time. sockets[r] = the connection
 * of rank r, sockets[0] = -1. GD_RANK_FAILED naming the ranks that did not come within timeout_ms; GD_IO where rank 0 may open
 * no more files. */
GD_CHECKED gd_status gd_control_accept(gd_control_listener *listener, const gd_control_invitation *invitation, int32_t ranks,
                                       int32_t timeout_ms, int *sockets);
/* The others: tries rank 0's addresses in order. GD_RANK_FAILED. */
GD_CHECKED gd_status gd_control_connect(const gd_control_invitation *invitation, int32_t rank, int32_t timeout_ms, int *out);

/* Where a rank can be called once rank 0 is lost. any.sa_family is 0 where it cannot. */
typedef union gd_contact {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} gd_contact;

/* Binds a port on the address that `connection` (to rank 0) leaves from: it is this process's own from now on, and nobody can
 * connect before gd_control_answer. Returns the socket, or -1 with a contact that cannot be called. */
int gd_control_reserve(int connection, gd_contact *out);
/* Starts to listen on it. False: the system refuses. */
bool gd_control_answer(int reserved);
/* Begins to connect, without waiting: the socket is writable when it is done; -1 where it cannot be. */
int gd_control_call(const gd_contact *contact);
/* Compares in constant time. */
bool gd_control_same_key(const uint8_t *a, const uint8_t *b);

typedef enum gd_message_type {
  GD_MESSAGE_BEAT = 1,  /* both ways: gd_beat */
  GD_MESSAGE_AGREE,     /* to rank 0: a rank's status and text */
  GD_MESSAGE_VERDICT,   /* from rank 0: the worst of them */
  GD_MESSAGE_FATAL,     /* both ways: a status and text; the job ends */
  GD_MESSAGE_LEFT,      /* to rank 0: it was silent too long, another rank leads the others out and has printed why */
  GD_MESSAGE_ASK,       /* from rank 0: a beat at once, please */
  GD_MESSAGE_ASK_CALLS, /* from rank 0: all calls, please */
  GD_MESSAGE_CALLS,     /* to rank 0: some of them */
  GD_MESSAGE_WARNING,   /* to rank 0: a text */
  GD_MESSAGE_BYE,       /* both ways: this rank is done, its connection will close */
} gd_message_type;

typedef struct gd_message_header {
  uint32_t type;
  uint32_t bytes; /* of the body */
} gd_message_header;

/* Sends one message whole; never blocks for long. False when the connection is gone. A message that finds the peer's buffer
 * full before its first byte is dropped when `may_drop` (a beat to a stopped process). The caller locks. */
bool gd_message_send(int socket, gd_message_type type, const void *body, size_t bytes, bool may_drop);

/* Collects the bytes of a connection into messages. */
typedef struct gd_message_reader {
  size_t have;
  unsigned char buffer[sizeof(gd_message_header) + GD_CONTROL_BODY_BYTES];
} gd_message_reader;

/* One message: returns 1 and fills *header and *body (valid until the next call), 0 when no whole message is there yet, -1
 * when the connection is closed, broken or speaks nonsense. Does not block. */
int gd_message_read(int socket, gd_message_reader *reader, gd_message_header *header, const void **body);

#endif
