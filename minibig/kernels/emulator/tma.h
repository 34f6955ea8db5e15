// The functions of tma.cuh in plain C++: copies that arrive when somebody waits.
#pragma once

struct TensorMap {  // as tensor_map.py writes it; the launch fills in the address
  const char* array;
  long long sizes[4];  // numbers of 2 bytes in a row, rows, heads, sequences
  long long steps[3];  // bytes from row to row, head to head, sequence to sequence
  long long box[2];    // numbers, 64 at most, and rows
};

struct Barrier {
  unsigned short arrivals, missing;  // of threads: in a phase, in this one
  unsigned phase : 1;
  int bytes : 31;  // still to come
};

namespace emulator {
struct Transfer {
  char* to;
  TensorMap map;
  int x, y, head, sequence;
  Barrier* barrier;
};
constexpr int MOST_TRANSFERS = 256;
inline Transfer transfers[MOST_TRANSFERS];
inline int transfers_begun;
inline unsigned transfers_block;

inline void end_phase(Barrier* b) {
  if (b->missing > 0 || b->bytes > 0) return;
  b->phase ^= 1, b->missing = b->arrivals;
}

// Rows of 128 bytes, from multiples of 128 bytes; zeros outside of the array.
inline void arrive(const Transfer& t) {
  for (int i = 0; i < t.map.box[1]; i++)
    for (int j = 0; j < t.map.box[0]; j += 8) {
      const long long x = t.x + j, y = t.y + i;
      const bool inside = t.x >= 0 && x < t.map.sizes[0] && y >= 0 &&
                          y < t.map.sizes[1] && t.head >= 0 &&
                          t.head < t.map.sizes[2] && t.sequence >= 0 &&
                          t.sequence < t.map.sizes[3];
      uintptr_t at = (uintptr_t)t.to + i * 128 + j * 2;
      at ^= (at >> 7 & 7) << 4;
      const char* from = t.map.array + y * t.map.steps[0] +
                         t.head * t.map.steps[1] + t.sequence * t.map.steps[2];
      inside ? memcpy((char*)at, from + x * 2, 16) : memset((char*)at, 0, 16);
    }
  t.barrier->bytes -= t.map.box[0] * t.map.box[1] * 2;
  if (t.barrier->bytes < 0) stop("waits for a barrier: more bytes came than expected");
  end_phase(t.barrier);
}

inline bool passed(const void* barrier, int phase) {
  int left = 0;
  if (transfers_block != blocks) transfers_begun = 0;
  for (int i = 0; i < transfers_begun; i++)
    if (transfers[i].barrier == barrier)
      arrive(transfers[i]);
    else
      transfers[left++] = transfers[i];
  transfers_begun = left;
  return ((const Barrier*)barrier)->phase != (unsigned)phase;
}

inline void check_transfers() {
  if (transfers_begun > 0 && transfers_block == blocks)
    stop("leaves while a box is on its way: nobody waited");
}
static const bool told = (at_end_of_block = check_transfers, true);
}  // namespace emulator

inline void barrier_init(Barrier* b, int arrivals) {
  b->arrivals = b->missing = arrivals, b->phase = 0, b->bytes = 0;
}
inline void barrier_init_fence() {}
inline void barrier_arrive_expecting(Barrier* b, int bytes) {
  b->missing--, b->bytes += bytes;
  emulator::end_phase(b);
}
inline void barrier_arrive(Barrier* b) { barrier_arrive_expecting(b, 0); }
inline bool barrier_wait(Barrier* b, int phase) {
  emulator::wait_until(emulator::passed, b, phase, __FILE__, __LINE__);
  return true;
}

inline void copy_box(void* to, const TensorMap& map, int x, int y, int head,
                     int sequence, Barrier* b) {
  using namespace emulator;
  if ((uintptr_t)to % 1024) stop("copies a box to where 1024 does not divide");
  if (transfers_block != blocks) transfers_begun = 0, transfers_block = blocks;
  if (transfers_begun == MOST_TRANSFERS) stop("begins more copies than are waited for");
  memset(to, 0xff, map.box[0] * map.box[1] * 2);  // not there yet: NaN
  transfers[transfers_begun++] = {(char*)to, map, x, y, head, sequence, b};
}
