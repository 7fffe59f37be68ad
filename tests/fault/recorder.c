/* What recorder.h promises. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/fault/recorder.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 1024, PATH_BYTES = 512, CALLS = 20000, NODES = 512, ENTRIES = 64, CHANGES = 20000 };

typedef enum call_kind {
  DID_OPEN,
  DID_WRITE,
  DID_CUT,
  DID_SYNC,
  DID_MKDIR,
  DID_LINK,
  DID_RENAME,
  DID_SWAP,
  DID_REMOVE
} call_kind;
static const char *const call_names[] = {"open", "write", "truncate", "fsync", "mkdir", "link", "rename", "swap", "remove"};

typedef struct call {
  call_kind kind;
  int open; /* number of the open file; DID_OPEN: its own */
  bool creates, empties;
  char path[PATH_BYTES], to[PATH_BYTES]; /* below root */
  int64_t offset, count;
  char *bytes;
} call;

static struct {
  const char *root;
  pthread_mutex_t lock;
  call calls[CALLS];
  int count, opened;
  int open_of[FILES];              /* by descriptor: number of the open file + 1, 0: not ours */
  char path_of[FILES][PATH_BYTES]; /* absolute, of every descriptor */
} recorder = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- recording ---- */

#define REAL(name)                                             \
  static __typeof__(&(name)) real;                             \
  if (!real) {                                                 \
    void *found = dlsym(RTLD_NEXT, #name);                     \
    memcpy(&real, &found, sizeof real); /* no cast in ISO C */ \
  }

static const char *absolute(int parent, const char *path, char out[2 * PATH_BYTES]) {
  const char *folder = path[0] == '/' || parent < 0 || parent >= FILES ? "" : recorder.path_of[parent];
  snprintf(out, 2 * PATH_BYTES, "%s%s%s", folder, *folder ? "/" : "", path);
  return out;
}

/* NULL: not below root. */
static const char *below_root(const char *path) {
  size_t length = recorder.root ? strlen(recorder.root) : 0;
  if (!length || strncmp(path, recorder.root, length) != 0) return NULL;
  return path[length] == 0 ? "" : path[length] == '/' ? path + length + 1 : NULL;
}

static call *add(call_kind kind) {
  if (recorder.count == CALLS) abort();
  call *c = &recorder.calls[recorder.count++];
  *c = (call){.kind = kind};
  return c;
}

static void record_names(call_kind kind, int parent, const char *path, int to_parent, const char *to) {
  char first[2 * PATH_BYTES], second[2 * PATH_BYTES];
  const char *from = below_root(absolute(parent, path, first)), *into = to ? below_root(absolute(to_parent, to, second)) : "";
  if (!from || !into) return;
  pthread_mutex_lock(&recorder.lock);
  call *c = add(kind);
  snprintf(c->path, sizeof c->path, "%s", from);
  snprintf(c->to, sizeof c->to, "%s", into);
  pthread_mutex_unlock(&recorder.lock);
}

static void record_file(call_kind kind, int file, int64_t offset, const void *bytes, int64_t count) {
  if (!recorder.root || file < 0 || file >= FILES || !recorder.open_of[file]) return;
  pthread_mutex_lock(&recorder.lock);
  call *c = add(kind);
  c->open = recorder.open_of[file] - 1;
  c->offset = offset;
  c->count = count;
  if (bytes && count > 0) {
    c->bytes = malloc((size_t)count);
    if (!c->bytes) abort();
    memcpy(c->bytes, bytes, (size_t)count);
  }
  pthread_mutex_unlock(&recorder.lock);
}

static int opened(int file, int parent, const char *path, int flags, bool was_there) {
  if (file < 0 || file >= FILES) return file;
  char whole[2 * PATH_BYTES];
  const char *name = below_root(absolute(parent, path, whole));
  snprintf(recorder.path_of[file], PATH_BYTES, "%.511s", whole);
  recorder.open_of[file] = 0;
  if (!name) return file;
  pthread_mutex_lock(&recorder.lock);
  call *c = add(DID_OPEN);
  c->open = recorder.opened++;
  c->creates = (flags & O_CREAT) && !was_there;
  c->empties = (flags & O_TRUNC) != 0;
  snprintf(c->path, sizeof c->path, "%s", name);
  recorder.open_of[file] = c->open + 1;
  pthread_mutex_unlock(&recorder.lock);
  return file;
}

static int open_any(int parent, const char *path, int flags, mode_t mode) {
  REAL(openat)
  struct stat info;
  bool was_there = fstatat(parent, path, &info, 0) == 0;
  return opened(real(parent, path, flags, mode), parent, path, flags, was_there);
}

#define MODE_OF(flags, mode)             \
  mode_t mode = 0;                       \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list list;                        \
    va_start(list, flags);               \
    mode = va_arg(list, mode_t);         \
    va_end(list);                        \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(AT_FDCWD, path, flags, mode);
}

int openat(int parent, const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(parent, path, flags, mode);
}

int openat64(int parent, const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_any(parent, path, flags, mode);
}

int close(int file) {
  REAL(close)
  if (file >= 0 && file < FILES) recorder.open_of[file] = 0;
  return real(file);
}

ssize_t write(int file, const void *bytes, size_t count) {
  REAL(write)
  off_t at = recorder.root ? lseek(file, 0, SEEK_CUR) : 0;
  ssize_t put = real(file, bytes, count);
  if (put > 0) record_file(DID_WRITE, file, at, bytes, put);
  return put;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
  REAL(pwrite)
  ssize_t put = real(file, bytes, count, offset);
  if (put > 0) record_file(DID_WRITE, file, offset, bytes, put);
  return put;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
  return pwrite(file, bytes, count, offset);
}

int ftruncate(int file, off_t length) {
  REAL(ftruncate)
  int result = real(file, length);
  if (result == 0) record_file(DID_CUT, file, length, NULL, 0);
  return result;
}

int ftruncate64(int file, off64_t length) {
  return ftruncate(file, length);
}

int fsync(int file) {
  REAL(fsync)
  int result = real(file);
  if (result == 0) record_file(DID_SYNC, file, 0, NULL, 0);
  return result;
}

int fdatasync(int file) {
  REAL(fdatasync)
  int result = real(file);
  if (result == 0) record_file(DID_SYNC, file, 0, NULL, 0);
  return result;
}

int rename(const char *from, const char *to) {
  REAL(rename)
  int result = real(from, to);
  if (result == 0) record_names(DID_RENAME, AT_FDCWD, from, AT_FDCWD, to);
  return result;
}

int renameat2(int parent, const char *from, int to_parent, const char *to, unsigned flags) {
  REAL(renameat2)
  int result = real(parent, from, to_parent, to, flags);
  if (result == 0) record_names(flags & RENAME_EXCHANGE ? DID_SWAP : DID_RENAME, parent, from, to_parent, to);
  return result;
}

int link(const char *from, const char *to) {
  REAL(link)
  int result = real(from, to);
  if (result == 0) record_names(DID_LINK, AT_FDCWD, from, AT_FDCWD, to);
  return result;
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir)
  int result = real(path, mode);
  if (result == 0) record_names(DID_MKDIR, AT_FDCWD, path, 0, NULL);
  return result;
}

int unlink(const char *path) {
  REAL(unlink)
  int result = real(path);
  if (result == 0) record_names(DID_REMOVE, AT_FDCWD, path, 0, NULL);
  return result;
}

int unlinkat(int parent, const char *path, int flags) {
  REAL(unlinkat)
  int result = real(parent, path, flags);
  if (result == 0) record_names(DID_REMOVE, parent, path, 0, NULL);
  return result;
}

/* ---- the model ---- */

typedef struct entry {
  char name[128];
  int node;
} entry;

/* A file or a folder, as programs see it and as the disk has it for sure. */
typedef struct node {
  bool folder;
  entry entries[ENTRIES], durable_entries[ENTRIES];
  int entry_count, durable_count;
  char *durable; /* bytes */
  int64_t durable_size;
  int first_pending; /* of its writes: the call behind the last sync */
} node;

/* A change of a folder that is not on the disk for sure: names, and what they are from then on (-1: nothing). */
typedef struct change {
  int folder, call, count;
  entry set[2];
} change;

static node nodes[NODES]; /* 0: root */
static int node_count;
static int node_of_open[CALLS];
static change changes[CHANGES];
static int change_count;
static int writers[CALLS]; /* by call: the node that a write or a cut goes to */

static uint64_t random_state;
static uint64_t any(uint64_t below) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return (z ^ z >> 31) % below;
}

static void set_entry(entry *list, int *count, const char *name, int target) {
  int i = 0;
  while (i < *count && strcmp(list[i].name, name) != 0) i++;
  if (target < 0) {
    if (i < *count) list[i] = list[--*count];
    return;
  }
  if (i == ENTRIES) abort();
  if (i == *count) snprintf(list[(*count)++].name, sizeof list->name, "%.127s", name);
  list[i].node = target;
}

static int find(int folder, const char *name) {
  for (int i = 0; i < nodes[folder].entry_count; i++)
    if (!strcmp(nodes[folder].entries[i].name, name)) return nodes[folder].entries[i].node;
  return -1;
}

/* The folder of a path below root, and the last name of it; "": root itself, with an empty name. */
static int folder_of(const char *path, const char **name) {
  int at = 0;
  *name = path;
  for (const char *slash; (slash = strchr(*name, '/')); *name = slash + 1) {
    char part[128];
    snprintf(part, sizeof part, "%.*s", (int)(slash - *name), *name);
    at = find(at, part);
    if (at < 0) abort();
  }
  return at;
}

static int look_up(const char *path) {
  const char *name;
  int folder = folder_of(path, &name);
  return *name ? find(folder, name) : folder;
}

static int new_node(bool folder, int call_number) {
  if (node_count == NODES) abort();
  nodes[node_count] = (node){.folder = folder, .first_pending = call_number};
  return node_count++;
}

static void change_folder(int folder, int call_number, const char *name, int target, const char *other, int other_target) {
  if (change_count == CHANGES) abort();
  change *c = &changes[change_count++];
  *c = (change){.folder = folder, .call = call_number, .count = other ? 2 : 1};
  snprintf(c->set[0].name, sizeof c->set[0].name, "%.127s", name);
  c->set[0].node = target;
  if (other) snprintf(c->set[1].name, sizeof c->set[1].name, "%.127s", other);
  c->set[1].node = other_target;
  for (int i = 0; i < c->count; i++)
    set_entry(nodes[folder].entries, &nodes[folder].entry_count, c->set[i].name, c->set[i].node);
}

static void put_bytes(char **bytes, int64_t *size, int64_t offset, const char *from, int64_t count) {
  if (offset + count > *size) {
    *bytes = realloc(*bytes, (size_t)(offset + count));
    if (!*bytes) abort();
    memset(*bytes + *size, 0, (size_t)(offset + count - *size));
    *size = offset + count;
  }
  memcpy(*bytes + offset, from, (size_t)count);
}

static void cut_bytes(char **bytes, int64_t *size, int64_t length) {
  if (length > *size) put_bytes(bytes, size, length - 1, "", 1);
  *size = length;
}

/* Applies a write or a cut to a file's bytes; part < 0: all of it. */
static void apply(const call *c, char **bytes, int64_t *size, int64_t part) {
  if (c->kind == DID_WRITE && (part < 0 ? c->count : part) > 0)
    put_bytes(bytes, size, c->offset, c->bytes, part < 0 ? c->count : part);
  if (c->kind != DID_WRITE) cut_bytes(bytes, size, c->kind == DID_CUT ? c->offset : 0);
}

static bool pends(int call_number, int file) {
  return writers[call_number] == file + 1;
}

static void sync_node(int number, int call_number) {
  node *n = &nodes[number];
  for (int i = n->first_pending; i < call_number && !n->folder; i++)
    if (pends(i, number)) apply(&recorder.calls[i], &n->durable, &n->durable_size, -1);
  n->first_pending = call_number;
  if (!n->folder) return;
  memcpy(n->durable_entries, n->entries, sizeof n->entries);
  n->durable_count = n->entry_count;
  int kept = 0;
  for (int i = 0; i < change_count; i++)
    if (changes[i].folder != number) changes[kept++] = changes[i];
  change_count = kept;
}

static void replay(int number) {
  const call *c = &recorder.calls[number];
  const char *name = "", *to;
  int folder = c->path[0] ? folder_of(c->path, &name) : 0, target;
  writers[number] = 0;
  switch (c->kind) {
    case DID_OPEN:
      if (c->creates) change_folder(folder, number, name, new_node(false, number), NULL, 0);
      target = node_of_open[c->open] = look_up(c->path);
      if (target < 0) abort();
      if (c->empties && !nodes[target].folder) writers[number] = target + 1;
      break;
    case DID_WRITE:
    case DID_CUT: writers[number] = node_of_open[c->open] + 1; break;
    case DID_SYNC: sync_node(node_of_open[c->open], number); break;
    case DID_MKDIR: change_folder(folder, number, name, new_node(true, number), NULL, 0); break;
    case DID_REMOVE: change_folder(folder, number, name, -1, NULL, 0); break;
    case DID_LINK:
    case DID_RENAME:
    case DID_SWAP:
      if (folder_of(c->to, &to) != folder) abort(); /* nobody does that here */
      target = look_up(c->path);
      if (c->kind == DID_LINK) change_folder(folder, number, to, target, NULL, 0);
      if (c->kind == DID_RENAME) change_folder(folder, number, to, target, name, -1);
      if (c->kind == DID_SWAP) change_folder(folder, number, to, target, name, look_up(c->to));
      break;
  }
}

/* What was there before the first call: on the disk. */
static void load(int number, const char *path) {
  DIR *entries = opendir(path);
  if (!entries) abort();
  for (struct dirent *e; (e = readdir(entries));) {
    char inner[PATH_BYTES + 300];
    struct stat info;
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
    if (stat(inner, &info)) abort();
    int target = new_node(S_ISDIR(info.st_mode), 0);
    set_entry(nodes[number].entries, &nodes[number].entry_count, e->d_name, target);
    if (nodes[target].folder) {
      load(target, inner);
      continue;
    }
    FILE *file = fopen(inner, "rb");
    nodes[target].durable_size = info.st_size;
    nodes[target].durable = malloc((size_t)info.st_size + 1);
    if (!file || !nodes[target].durable || fread(nodes[target].durable, 1, (size_t)info.st_size, file) != (size_t)info.st_size)
      abort();
    fclose(file);
  }
  closedir(entries);
  memcpy(nodes[number].durable_entries, nodes[number].entries, sizeof nodes[number].entries);
  nodes[number].durable_count = nodes[number].entry_count;
}

static node at_start[NODES];
static int count_at_start;

/* What the last crash has made of them. */
static void forget_nodes(void) {
  for (int i = 0; i < node_count; i++)
    if (i >= count_at_start || nodes[i].durable != at_start[i].durable) free(nodes[i].durable);
}

void gd_recorder_stop(void) {
  recorder.root = NULL;
}

void gd_recorder_forget(void) {
  gd_recorder_stop();
  forget_nodes();
  for (int i = 0; i < recorder.count; i++) free(recorder.calls[i].bytes);
  for (int i = 0; i < count_at_start; i++) free(at_start[i].durable);
  recorder.count = recorder.opened = node_count = count_at_start = change_count = 0;
}

void gd_recorder_start(const char *root) {
  gd_recorder_forget();
  new_node(true, 0);
  load(0, root);
  memcpy(at_start, nodes, sizeof nodes);
  count_at_start = node_count;
  recorder.root = root;
}

int gd_recorder_calls(void) {
  return recorder.count;
}

int gd_recorder_first_rename(void) {
  int i = 0;
  while (i < recorder.count && recorder.calls[i].kind != DID_RENAME && recorder.calls[i].kind != DID_SWAP) i++;
  return i;
}

const char *gd_recorder_name(int at) {
  static char text[2 * PATH_BYTES + 64];
  if (at >= recorder.count) return "the end";
  const call *c = &recorder.calls[at];
  const char *path = c->path;
  for (int i = 0; i < at && !path[0]; i++)
    if (recorder.calls[i].kind == DID_OPEN && recorder.calls[i].open == c->open) path = recorder.calls[i].path;
  snprintf(text, sizeof text, "%s %s %s", call_names[c->kind], path, c->to);
  return text;
}

/* ---- a crash ---- */

static void build_file(int number, int at, const char *path) {
  const node *n = &nodes[number];
  int64_t size = n->durable_size;
  char *bytes = malloc((size_t)size + 1);
  if (!bytes) abort();
  if (size) memcpy(bytes, n->durable, (size_t)size);
  for (int i = n->first_pending; i < at; i++) {
    if (!pends(i, number)) continue;
    const call *c = &recorder.calls[i];
    uint64_t fate = any(4); /* lost, a part, whole */
    if (fate == 1 && c->kind == DID_WRITE) apply(c, &bytes, &size, (int64_t)any((uint64_t)c->count + 1));
    if (fate > 1) apply(c, &bytes, &size, -1);
  }
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, (size_t)size, file) != (size_t)size || fclose(file)) abort();
  free(bytes);
}

static void build_folder(int number, int at, const bool *made, const char *path) {
  entry list[ENTRIES];
  int count = nodes[number].durable_count;
  memcpy(list, nodes[number].durable_entries, sizeof list);
  for (int i = 0; i < change_count; i++)
    for (int k = 0; k < changes[i].count && changes[i].folder == number && made[i]; k++)
      set_entry(list, &count, changes[i].set[k].name, changes[i].set[k].node);
  if (mkdir(path, 0777)) abort();
  for (int i = 0; i < count; i++) {
    char inner[PATH_BYTES + 300];
    snprintf(inner, sizeof inner, "%.511s/%.127s", path, list[i].name);
    if (nodes[list[i].node].folder)
      build_folder(list[i].node, at, made, inner);
    else
      build_file(list[i].node, at, inner);
  }
}

void gd_recorder_crash(const char *to, int at, bool ordered, uint64_t seed) {
  static bool made[CHANGES];
  random_state = seed;
  forget_nodes();
  memcpy(nodes, at_start, sizeof nodes);
  for (int i = 0; i < count_at_start; i++) { /* a sync of a file writes into its bytes */
    if (!nodes[i].durable) continue;
    nodes[i].durable = malloc((size_t)nodes[i].durable_size + 1);
    if (!nodes[i].durable) abort();
    memcpy(nodes[i].durable, at_start[i].durable, (size_t)at_start[i].durable_size);
  }
  node_count = count_at_start;
  change_count = 0;
  for (int i = 0; i < at; i++) replay(i);
  int journal = (int)any((uint64_t)at + 1);
  for (int i = 0; i < change_count; i++) made[i] = ordered ? changes[i].call < journal : any(2) == 1;
  build_folder(0, at, made, to);
}
