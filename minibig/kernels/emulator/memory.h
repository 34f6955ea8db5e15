// The arrays of a launch: guarded on both sides; and copies that arrive late.
#pragma once

#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fibers.h"

namespace emulator {

constexpr size_t GUARD = 256 << 20;  // bytes before and after an array; never in memory
constexpr int MOST_ARGUMENTS = 64, MOST_COPIES = 256;  // copies under way, a thread

// ---- arrays between pages that no one may touch -------------------------------------

struct Guarded {
  char *pages, *start;
  size_t mapped, bytes, slack;  // slack: bytes between the array's end and the page's
  int argument;                 // -1: shared memory
};
static Guarded arrays[MOST_ARGUMENTS + 1];
static int guarded;  // how many there are

// The array ends where a page ends, as near as 16 bytes; the rest holds 0xff, which
// reads as NaN.
static char* guard(size_t bytes, int argument) {
  const size_t page = sysconf(_SC_PAGESIZE);
  const size_t inner = (bytes + 16 + page - 1) / page * page;
  const size_t mapped = inner + 2 * GUARD;
  char* pages = (char*)mmap(nullptr, mapped, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + GUARD, inner, PROT_READ | PROT_WRITE)) {
    write_message("no memory for an array of %zu bytes", bytes);
    fail();
  }
  memset(pages + GUARD, 0xff, inner);
  const size_t slack = (16 - bytes % 16) % 16;
  char* start = pages + GUARD + inner - bytes - slack;
  arrays[guarded++] = {pages, start, mapped, bytes, slack, argument};
  return start;
}

static const char** names;  // of the arguments, for messages

static const char* name_of(const Guarded& a) {
  return a.argument < 0 ? "shared memory" : names[a.argument];
}

static void check_canary(const Guarded& a, const char* first, const char* last) {
  for (const char* p = first; p < last; p++) {
    if (*p == (char)0xff) continue;
    write_message("%s was written to outside: %lld bytes from its start, but it has "
                  "%zu", name_of(a), (long long)(p - a.start), a.bytes);
    fail();
  }
}

static void check_canaries() {
  for (int i = 0; i < guarded; i++) {
    const Guarded& a = arrays[i];
    check_canary(a, a.pages + GUARD, a.start);
    check_canary(a, a.start + a.bytes, a.start + a.bytes + a.slack);
  }
}

static volatile sig_atomic_t launched;

static void touched_outside(int number, siginfo_t* info, void*) {
  if (!launched) {  // not ours: as if we were not here
    signal(number, SIG_DFL);
    return;
  }
  const char* p = (const char*)info->si_addr;
  say_where();
  for (int i = 0; i < guarded; i++) {
    const Guarded& a = arrays[i];
    if (p < a.pages || p >= a.pages + a.mapped) continue;
    const long long from = p - a.start, behind = from - (long long)a.bytes;
    write_message("touches %s outside: %lld bytes %s", name_of(a),
                  behind >= 0 ? behind : -from,
                  behind >= 0 ? "behind its end" : "before its start");
    fail();
  }
  write_message("touches address %p, which belongs to no array", (const void*)p);
  fail();
}

// ---- shared memory that kernels declare ---------------------------------------------

// As the text's only thread_local variables they lie side by side, where the loader says.
static thread_local char among_declared;

static int clear_if_ours(dl_phdr_info* library, size_t, void*) {
  char* start = (char*)library->dlpi_tls_data;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const auto& part = library->dlpi_phdr[i];
    if (part.p_type != PT_TLS || &among_declared < start ||
        &among_declared >= start + part.p_memsz)
      continue;
    memset(start, 0xff, part.p_memsz);
    return 1;
  }
  return 0;
}

// NaN, as what a launch adds: nobody has written yet.
static void clear_declared() { dl_iterate_phdr(clear_if_ours, nullptr); }

// ---- copies of 16 bytes that arrive when their thread waits for them ----------------

struct Copy {
  char* to;
  const char* from;
  int group;
};
static Copy copies_begun[MOST_THREADS][MOST_COPIES];

void copy_later(void* to, const void* from) {
  Thread& t = threads[running];
  if (((intptr_t)to | (intptr_t)from) % 16 != 0) {
    say_where();
    write_message("copies 16 bytes from %p to %p: both must be multiples of 16", from,
                  to);
    fail();
  }
  memset(to, 0xff, 16);  // not there yet: NaN
  if (t.begun - t.done == MOST_COPIES) {
    say_where();
    write_message("has begun more than %d copies without a wait", MOST_COPIES);
    fail();
  }
  Copy& c = copies_begun[running][t.begun++ % MOST_COPIES];
  c = {(char*)to, (const char*)from, t.group};
}

void close_copies() { threads[running].group++; }

void finish_copies(int groups) {
  Thread& t = threads[running];
  for (; t.done < t.begun; t.done++) {
    const Copy& c = copies_begun[running][t.done % MOST_COPIES];
    if (c.group >= t.group - groups) return;
    c.from ? memcpy(c.to, c.from, 16) : memset(c.to, 0, 16);
  }
}

}  // namespace emulator
