// The machine behind emulator.h: a launch, from its arguments to its message.
#pragma once

#include <stdlib.h>

#include "memory.h"

namespace emulator {

// ---- the launch ---------------------------------------------------------------------

struct Signals {  // ours while a kernel runs
  struct sigaction segv, bus;
  stack_t stack;
};
static Signals before;

static void catch_signals() {
  static char own_stack[64 << 10];  // the fiber's may be what is at fault
  stack_t stack = {};
  stack.ss_sp = own_stack, stack.ss_size = sizeof own_stack;
  sigaltstack(&stack, &before.stack);
  struct sigaction action = {};
  action.sa_sigaction = touched_outside;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &before.segv);
  sigaction(SIGBUS, &action, &before.bus);
  launched = 1;
}

static void release_signals() {
  launched = 0;
  sigaction(SIGSEGV, &before.segv, nullptr);
  sigaction(SIGBUS, &before.bus, nullptr);
  sigaltstack(&before.stack, nullptr);
}

static void run_grid(size_t shared_bytes) {
  static int* turns;  // of the blocks
  const size_t blocks = (size_t)gridDim.x * gridDim.y * gridDim.z;
  turns = (int*)realloc(turns, blocks * sizeof *turns);
  for (size_t i = 0; i < blocks; i++) turns[i] = (int)i;
  shuffle(turns, (int)blocks);
  for (size_t i = 0; i < blocks; i++) {
    const unsigned turn = turns[i], rest = turn / gridDim.x;
    blockIdx = {turn % gridDim.x, rest % gridDim.y, rest / gridDim.y};
    memset(shared_memory, 0xff, shared_bytes);  // NaN: nobody has written yet
    clear_declared();
    run_block();
  }
}

static void prepare(const unsigned* grid, const unsigned* block) {
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  count = block[0] * block[1] * block[2];
  if (!stacks)
    stacks = (char*)mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (int i = 0; i < count; i++) {
    order[i] = i;
    threads[i].index = {i % block[0], i / block[0] % block[1],
                        i / block[0] / block[1]};
  }
}

static const char* launch(void (*kernel)(void**), const unsigned* grid,
                          const unsigned* block, size_t shared_bytes,
                          unsigned long long seed, int n, void** given,
                          const long long* bytes, const char* writable,
                          void** maps, const char** argument_names) {
  static void *copies[MOST_ARGUMENTS], *places[MOST_ARGUMENTS];
  message[0] = 0, random_state = seed * 2654435761ull + 88172645463325252ull;
  memset(copies, 0, sizeof copies);
  names = argument_names;
  prepare(grid, block);
  catch_signals();
  if (sigsetjmp(launcher, 1) == 0) {
    for (int i = 0; i < n; i++) {
      if (bytes[i] > 0) copies[i] = guard(bytes[i], i);
      if (bytes[i] > 0) memcpy(copies[i], given[i], bytes[i]);
      places[i] = bytes[i] < 0 ? given[i] : (void*)&copies[i];  // < 0: a number
      if (maps[i]) *(void**)maps[i] = copies[i], places[i] = maps[i];  // by value
    }
    shared_memory = guard(shared_bytes, -1);
    body = kernel, arguments = places;
    run_grid(shared_bytes);
    check_canaries();
    for (int i = 0; i < n; i++)
      if (bytes[i] > 0 && writable[i]) memcpy(given[i], copies[i], bytes[i]);
  } else {  // fibers stand in the middle of a kernel: they begin anew
    for (int i = 0; i < MOST_THREADS; i++) threads[i].started = false;
  }
  release_signals();
  while (guarded > 0) guarded--, munmap(arrays[guarded].pages, arrays[guarded].mapped);
  return message;
}

}  // namespace emulator

// g++ and clang++ call these: an index leaves an array of known length, or an address
// is not a multiple of what its type asks for, 16 for a float4.
struct Place {
  const char* file;
  unsigned line, column;
};

extern "C" void __ubsan_handle_out_of_bounds(void* data, void* index) {
  const Place* place = (const Place*)data;
  emulator::say_where();
  emulator::write_message("%s:%u: index %lld is outside of the array", place->file,
                          place->line, (long long)(intptr_t)index);
  emulator::fail();
}

extern "C" void __ubsan_handle_type_mismatch_v1(void* data, void* address) {
  const Place* place = (const Place*)data;
  emulator::say_where();
  emulator::write_message("%s:%u: address %p is not aligned for what is read or "
                          "written there", place->file, place->line, address);
  emulator::fail();
}
