/* doctor_ports.c - on which TCP ports this process listens, read from /proc. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/doctor.h"

enum { LISTEN = 10 };

/* The socket is one of this process's. */
static bool is_mine(unsigned long inode) {
  char wanted[64], path[300], target[64];
  DIR *entries = opendir("/proc/self/fd");
  bool found = false;
  snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
  for (struct dirent *entry; entries && !found && (entry = readdir(entries));) {
    snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) continue;
    target[length] = 0;
    found = strcmp(target, wanted) == 0;
  }
  if (entries) closedir(entries);
  return found;
}

/* The kernel writes an address as words of the machine: 127.0.0.1 is 0100007F here. */
static bool is_loopback(const char *address) {
  if (strlen(address) == 8) return strcmp(address + 6, "7F") == 0;
  return strcmp(address, "00000000000000000000000001000000") == 0;
}

static int32_t count_in(const char *table) {
  int32_t count = 0;
  char line[512], address[40];
  FILE *file = fopen(table, "re");
  while (file && fgets(line, sizeof line, file)) {
    unsigned state;
    unsigned long inode;
    if (sscanf(line, " %*d: %39[0-9A-F]:%*x %*s %x %*s %*s %*s %*s %*s %lu", address, &state, &inode) != 3) continue;
    count += state == LISTEN && !is_loopback(address) && is_mine(inode);
  }
  if (file) fclose(file);
  return count;
}

int32_t gd_doctor_ports(void) {
  return count_in("/proc/self/net/tcp") + count_in("/proc/self/net/tcp6");
}
