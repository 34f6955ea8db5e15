// The threads of a block as fibers: how they run, wait, and what a warp exchanges.
#pragma once

#include <setjmp.h>
#include <stdio.h>
#include <ucontext.h>

namespace emulator {

enum State { READY, AT_BARRIER, AT_WARP_BARRIER, WAITING, LEFT };

struct Thread {
  State state;
  uint3 index;
  jmp_buf stopped;     // where it goes on
  bool started;        // its stack holds a loop that runs one kernel after another
  const char* file;    // of the barrier it waits at
  int line;
  int shuffles;
  int begun, done, group;  // copies, and the group they belong to
  bool (*ready)(const void*, int);  // what it waits for
  const void* what;
  int value;
};

constexpr size_t STACK = 128 << 10;  // bytes a thread
constexpr int MOST_THREADS = 1024;

static Thread threads[MOST_THREADS];
static int count, running;  // threads in the block, the one that runs
static char* stacks;
alignas(16) static char slots[MOST_THREADS][2][32];
static int order[MOST_THREADS];
static unsigned long long random_state;
static jmp_buf scheduler;
static sigjmp_buf launcher;  // where a launch ends that fails
static char message[1024];
static void (*body)(void**);
static void** arguments;

// ---- what is wrong ends the launch --------------------------------------------------

[[noreturn]] static void fail() { siglongjmp(launcher, 1); }

template <class... Values>
static int write_message(const char* format, Values... values) {
  const size_t used = strlen(message);
  return snprintf(message + used, sizeof message - used, format, values...);
}

static void say_where() {
  const Thread& t = threads[running];
  write_message("block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x, blockIdx.y,
                blockIdx.z, t.index.x, t.index.y, t.index.z);
}

void stop(const char* what) {
  say_where();
  write_message("%s", what);
  fail();
}

// ---- chance -------------------------------------------------------------------------

static unsigned below(unsigned n) {  // xorshift64*, arXiv 1402.6246
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (unsigned)((random_state * 2685821657736338717ull) >> 33) % n;
}

static void shuffle(int* items, int n) {
  for (int i = n - 1; i > 0; i--) {
    const int j = below(i + 1);
    items[i] = replace(&items[j], items[i]);
  }
}

// ---- fibers: a context is made once, to enter a stack; after that jumps are cheaper --

__attribute__((noinline)) static void give_way() {
  if (_setjmp(threads[running].stopped) == 0) _longjmp(scheduler, 1);
}

static void run_kernels() {  // the outermost function on a thread's stack
  for (;;) {
    body(arguments);
    threads[running].state = LEFT;
    give_way();
  }
}

static void enter_stack(int i) {
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stacks + i * STACK;
  context.uc_stack.ss_size = STACK;
  context.uc_link = nullptr;
  makecontext(&context, run_kernels, 0);
  setcontext(&context);
}

__attribute__((noinline)) static void run_until_it_waits(int i) {
  running = i;
  threadIdx = threads[i].index;
  if (_setjmp(scheduler) != 0) return;
  if (threads[i].started) _longjmp(threads[i].stopped, 1);
  threads[i].started = true;
  enter_stack(i);
}

// ---- barriers -----------------------------------------------------------------------

int lane() { return running % 32; }
void* slot(int lane, int turn) { return slots[running / 32 * 32 + lane][turn]; }
int next_turn() { return threads[running].shuffles++ & 1; }

static void wait(State state, const char* file, int line) {
  Thread& t = threads[running];
  t.state = state, t.file = file, t.line = line;
  give_way();
}

void wait_for_block(const char* file, int line) { wait(AT_BARRIER, file, line); }

void wait_for_warp(unsigned mask, const char* file, int line) {
  if (mask != MINIBIG_ALL) {
    say_where();
    write_message("%s:%d: the emulator knows full warps only, not mask %#x", file, line,
                  mask);
    fail();
  }
  wait(AT_WARP_BARRIER, file, line);
}

void wait_until(bool (*ready)(const void*, int), const void* what, int value,
                const char* file, int line) {
  Thread& t = threads[running];
  t.ready = ready, t.what = what, t.value = value;
  wait(WAITING, file, line);
}

// Lets threads first … last - 1 go on if all of them wait at one line. Two lines are
// an error: some threads took another branch.
static bool release(int first, int last, State state) {
  for (int i = first; i < last; i++)
    if (threads[i].state != state) return false;
  for (int i = first; i < last; i++) {
    const Thread &a = threads[first], &b = threads[i];
    if (a.line != b.line || strcmp(a.file, b.file) != 0) {
      running = i;
      say_where();
      write_message("waits at %s:%d, while thread %d waits at %s:%d: all threads of a "
                    "%s must come to the same barrier", b.file, b.line, first, a.file,
                    a.line, state == AT_BARRIER ? "block" : "warp");
      fail();
    }
  }
  for (int i = first; i < last; i++) threads[i].state = READY;
  return true;
}

[[noreturn]] static void say_who_is_missing() {
  int left = 0, waiting = 0, one = 0, in_warp = 0;
  for (int i = 0; i < count; i++) {
    left += threads[i].state == LEFT;
    waiting += threads[i].state == AT_BARRIER;
    in_warp += threads[i].state == AT_WARP_BARRIER;
    if (threads[i].state != LEFT) one = i;
  }
  running = one;
  say_where();
  const Thread& t = threads[one];
  write_message("waits at %s:%d for threads that never come: of %d threads, %d wait at "
                "a barrier of the block, %d at one of their warp, %d have left the "
                "kernel", t.file, t.line, count, waiting, in_warp, left);
  if (count > left + waiting + in_warp)
    write_message(", %d wait for what is on its way", count - left - waiting - in_warp);
  fail();
}

// A warp runs as far as it can before the next one starts: it is ahead of the others as
// often as behind them, by a whole stretch between two barriers.
static bool run_warp(int first, int last) {
  bool moved = false;
  do {
    shuffle(order + first, last - first);
    for (int j = first; j < last; j++) {
      Thread& t = threads[order[j]];
      if (t.state == WAITING && t.ready(t.what, t.value)) t.state = READY;
      if (t.state == READY) run_until_it_waits(order[j]), moved = true;
    }
  } while (release(first, last, AT_WARP_BARRIER));
  return moved;
}

static void run_block() {
  static int warps[MOST_THREADS / 32];
  const int n = (count + 31) / 32;
  for (int i = 0; i < n; i++) warps[i] = i;
  for (int i = 0; i < count; i++) {
    Thread& t = threads[i];
    t.state = READY, t.shuffles = t.begun = t.done = t.group = 0;
  }
  blocks++;
  for (;; rounds++) {
    bool moved = false, all_left = true;
    shuffle(warps, n);
    for (int i = 0; i < n; i++)
      moved |= run_warp(32 * warps[i], min(32 * warps[i] + 32, count));
    for (int i = 0; i < count; i++) all_left &= threads[i].state == LEFT;
    if (all_left) break;
    if (!release(0, count, AT_BARRIER) && !moved) say_who_is_missing();
  }
  if (at_end_of_block) at_end_of_block();
}

}  // namespace emulator
