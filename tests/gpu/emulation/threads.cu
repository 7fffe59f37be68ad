/* threads.cu - grids, blocks, warps and threads on the CPU: it shows a wrong index, a missing barrier, a wrong order of sums.
 *
 * A thread is a coroutine that runs until it waits: at a barrier of the block, in an operation of its warp, or at its end. A
 * warp goes on alone until its lanes wait for the block, so the order in which warps and lanes come decides what a missing
 * barrier does. GPTDIST_EMULATION_ORDER: ascending, descending (default), or a number, the seed of a random order. Blocks run
 * one after another in the same order. Shared memory holds NaNs when a block begins and is as long as it was asked for, so that
 * AddressSanitizer sees what lies past its end. What CUDA would refuse or leave undefined ends the program: an operation of a
 * warp that a lane does not take part in, a barrier that can never fill or that threads reach in different places, a shape
 * that no launch takes. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

dim3 threadIdx, blockIdx, blockDim, gridDim;

enum { MAX_THREADS = 1024, STACK_BYTES = 256 * 1024, LANES = 32, MAX_SITES = 16 };
enum { SHARED_BYTES = 48 * 1024, SHARED_ASKED = 99 * 1024 }; /* the least of 8.0 and newer, asked for */
enum order { UNKNOWN, ASCENDING, DESCENDING, RANDOM };

/* A thread that waits. */
typedef struct context {
#if defined(__x86_64__)
  void *top; /* of its stack */
#else
  ucontext_t all;
#endif
} context;

/* Contexts are made once; a thread's end waits for the next launch. */
static struct fiber {
  context resume;
  char *stack;
  int line; /* where it waits */
} fibers[MAX_THREADS];

/* A bit a lane: it can run, waits for its warp, waits for its block. No bit: it has ended. */
static struct warp { unsigned all, runs, waits, barred; } warps[MAX_THREADS / LANES];

static struct site {
  const void *key; /* the declaration */
  void *memory;
  size_t bytes;
} sites[MAX_SITES];

static context scheduler;
static int current, threads, site_count;
static size_t asked_bytes; /* of dynamic shared memory, for the next launch */
static enum order order;
static uint64_t random_state;
static const std::function<void()> *kernel;
static float shuffled[MAX_THREADS];
static bool votes[MAX_THREADS];

void emulate_must(bool good, const char *what) {
  if (good) return;
  fprintf(stderr, "emulation: %s (block %u %u, thread %d)\n", what, blockIdx.x, blockIdx.y, current);
  abort();
}

static unsigned random_below(unsigned count) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)((random_state >> 33) % count);
}

static void read_order() {
  const char *text = getenv("GPTDIST_EMULATION_ORDER");
  if (!text || strcmp(text, "descending") == 0)
    order = DESCENDING;
  else if (strcmp(text, "ascending") == 0)
    order = ASCENDING;
  else
    order = RANDOM, random_state = strtoull(text, NULL, 10);
}

/* ---- switching ---- */

#if defined(__x86_64__)
/* emulate_change(from, to): keeps the registers that a call must keep on the stack, leaves the stack's top in *from and goes on
 * where *to was left. swapcontext would ask the kernel for signal masks each time. */
extern "C" void emulate_change(void **from, void **to);
asm(".text\n.globl emulate_change\n.hidden emulate_change\n.type emulate_change, @function\nemulate_change:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov (%rsi), %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size emulate_change, . - emulate_change\n");

static void change(context *from, context *to) {
  emulate_change(&from->top, &to->top);
}

static void make(context *c, char *stack, void (*entry)()) {
  void **top = (void **)(stack + STACK_BYTES - 64); /* 16-byte aligned */
  top[-1] = NULL;                                   /* where entry would return to */
  top[-2] = (void *)entry;
  memset(top - 8, 0, 6 * sizeof *top);
  c->top = top - 8;
}
#else
static void change(context *from, context *to) {
  swapcontext(&from->all, &to->all);
}

static void make(context *c, char *stack, void (*entry)()) {
  emulate_must(getcontext(&c->all) == 0, "no context of a thread");
  c->all.uc_stack.ss_sp = stack;
  c->all.uc_stack.ss_size = STACK_BYTES;
  makecontext(&c->all, entry, 0);
}
#endif

static void thread_main() {
  for (;;) {
    (*kernel)();
    emulate_copies_end();
    change(&fibers[current].resume, &scheduler);
  }
}

static void prepare(int thread) {
  fiber *f = &fibers[thread];
  if (f->stack) return;
  f->stack = (char *)aligned_alloc(64, STACK_BYTES);
  emulate_must(f->stack, "no memory for a stack");
  make(&f->resume, f->stack, thread_main);
}

/* The current thread waits: `bits` of its warp say for what. */
static void stop(unsigned *bits, int line) {
  warp *w = &warps[current / LANES];
  unsigned me = 1u << current % LANES;
  fibers[current].line = line;
  w->runs &= ~me;
  *bits |= me;
  change(&fibers[current].resume, &scheduler);
}

static void stop_for_warp(int line) {
  warp *w = &warps[current / LANES];
  emulate_must(w->all == ~0u, "an operation of a warp that is not whole");
  stop(&w->waits, line);
}

void emulate_barrier(int line) {
  stop(&warps[current / LANES].barred, line);
}

void emulate_warp_barrier(int line) {
  stop_for_warp(line);
}

float emulate_shuffle(int line, unsigned mask, float value, int from) {
  int me = current;
  emulate_must(mask == ~0u && from >= 0 && from < LANES, "a shuffle of part of a warp");
  shuffled[me] = value;
  stop_for_warp(line);
  float result = shuffled[me / LANES * LANES + from];
  stop_for_warp(line);
  return result;
}

float emulate_shuffle_xor(int line, unsigned mask, float value, int distance) {
  return emulate_shuffle(line, mask, value, current % LANES ^ distance);
}

unsigned emulate_ballot(int line, unsigned mask, bool vote) {
  int first = current / LANES * LANES;
  unsigned result = 0;
  emulate_must(mask == ~0u, "a ballot of part of a warp");
  votes[current] = vote;
  stop_for_warp(line);
  for (int i = 0; i < LANES; i++) result |= (unsigned)votes[first + i] << i;
  stop_for_warp(line);
  return result;
}

/* ---- shared memory ---- */

static void *site_memory(const void *key, size_t bytes) {
  size_t total = bytes;
  for (int i = 0; i < site_count; i++) {
    if (sites[i].key == key) return sites[i].memory;
    total += sites[i].bytes;
  }
  size_t most = asked_bytes > 0 ? (size_t)SHARED_ASKED : (size_t)SHARED_BYTES;
  emulate_must(site_count < MAX_SITES && total <= most, "more shared memory than a block has, or was asked for");
  site *s = &sites[site_count++];
  s->key = key;
  s->bytes = bytes;
  s->memory = malloc(bytes); /* aligned to 16 */
  memset(s->memory, 0xff, bytes);
  return s->memory;
}

void *emulate_shared(const void *key, size_t bytes) {
  return site_memory(key, bytes);
}

static const char dynamic_key = 0;

void *emulate_dynamic_shared() {
  for (int i = 0; i < site_count; i++)
    if (sites[i].key == &dynamic_key) return sites[i].memory;
  emulate_must(false, "dynamic shared memory that the launch did not ask for");
  return NULL;
}

int emulate_thread() {
  return current;
}

bool emulate_is_shared(const void *from, size_t bytes) {
  for (int i = 0; i < site_count; i++) {
    const char *memory = (const char *)sites[i].memory;
    if ((const char *)from >= memory && (const char *)from + bytes <= memory + sites[i].bytes) return true;
  }
  return false;
}

cudaError_t emulate_ask_shared(int bytes) {
  if (bytes > SHARED_ASKED) return cudaErrorInvalidValue;
  asked_bytes = (size_t)bytes;
  return cudaSuccess;
}

/* ---- launches ---- */

/* The warp to go on, -1: none can. */
static int next_warp(int count) {
  int can[MAX_THREADS / LANES], found = 0;
  for (int i = 0; i < count; i++)
    if (warps[i].runs) can[found++] = i;
  if (found == 0) return -1;
  return order == ASCENDING ? can[0] : order == DESCENDING ? can[found - 1] : can[random_below((unsigned)found)];
}

/* Each lane that can, until it waits. */
static void run_warp(int number) {
  warp *w = &warps[number];
  unsigned left = w->runs;
  while (left) {
    int lane = order == ASCENDING ? __builtin_ctz(left) : 31 - __builtin_clz(left);
    if (order == RANDOM) do
        lane = (int)random_below(LANES);
      while (!(left >> lane & 1));
    left &= ~(1u << lane);
    current = number * LANES + lane;
    threadIdx = dim3((unsigned)current % blockDim.x, (unsigned)current / blockDim.x);
    change(&scheduler, &fibers[current].resume);
    if (!((w->waits | w->barred) >> lane & 1)) w->runs &= ~(1u << lane); /* it has ended */
  }
  if (w->waits == 0) return;
  emulate_must(w->waits == w->all, "a lane left before an operation of its warp");
  for (int lane = 1; lane < LANES; lane++)
    emulate_must(fibers[number * LANES + lane].line == fibers[number * LANES].line, "lanes in different operations");
  w->runs = w->waits;
  w->waits = 0;
}

/* All that wait for the block go on; false: all threads have ended. */
static bool open_barrier(int count) {
  int line = -1;
  for (int i = 0; i < count; i++) {
    for (unsigned left = warps[i].barred; left; left &= left - 1) {
      current = i * LANES + __builtin_ctz(left);
      if (line < 0) line = fibers[current].line;
      emulate_must(fibers[current].line == line, "threads wait at different barriers");
    }
    warps[i].runs = warps[i].barred;
    warps[i].barred = 0;
  }
  return line >= 0;
}

static void run_block() {
  int count = (threads + LANES - 1) / LANES;
  for (int i = 0; i < count; i++) {
    int lanes = threads - i * LANES < LANES ? threads - i * LANES : LANES;
    warps[i].all = warps[i].runs = lanes == LANES ? ~0u : (1u << lanes) - 1;
    warps[i].waits = warps[i].barred = 0;
  }
  do {
    for (int i; (i = next_warp(count)) >= 0;) run_warp(i);
  } while (open_barrier(count));
}

/* A step that visits all of `count` places. */
static uint64_t stride_of(uint64_t count) {
  for (;;) {
    uint64_t stride = random_below(1u << 30) % count + 1, a = stride, b = count;
    while (b) {
      uint64_t rest = a % b;
      a = b;
      b = rest;
    }
    if (a == 1) return stride;
  }
}

size_t emulate_must_launch(dim3 grid, dim3 block, size_t dynamic_bytes) {
  emulate_must(block.x > 0 && block.y > 0 && block.x * block.y <= MAX_THREADS && block.z == 1, "the shape of a block");
  emulate_must(grid.x > 0 && grid.y > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z == 1, "the shape of a grid");
  emulate_must(dynamic_bytes <= SHARED_BYTES || dynamic_bytes <= asked_bytes, "shared memory that was not asked for");
  size_t asked = asked_bytes;
  asked_bytes = 0;
  return asked;
}

void emulate_grid(dim3 grid, dim3 block, size_t dynamic_bytes, size_t asked, const std::function<void()> &body) {
  uint64_t count = (uint64_t)grid.x * grid.y, stride = 1, at = 0;
  if (order == UNKNOWN) read_order();
  asked_bytes = asked;
  threads = (int)(block.x * block.y);
  blockDim = block;
  gridDim = grid;
  kernel = &body;
  site_count = 0;
  if (dynamic_bytes > 0) site_memory(&dynamic_key, dynamic_bytes);
  for (int i = 0; i < threads; i++) prepare(i);
  if (order == RANDOM) stride = stride_of(count), at = random_below(1u << 30) % count;
  for (uint64_t i = 0; i < count; i++, at = (at + stride) % count) {
    uint64_t number = order == ASCENDING ? i : order == DESCENDING ? count - 1 - i : at;
    blockIdx = dim3((unsigned)(number % grid.x), (unsigned)(number / grid.x));
    for (int s = 0; s < site_count; s++) memset(sites[s].memory, 0xff, sites[s].bytes);
    run_block();
  }
  for (int s = 0; s < site_count; s++) free(sites[s].memory);
  asked_bytes = 0;
}
