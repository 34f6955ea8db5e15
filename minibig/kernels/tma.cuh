// Copies by Hopper's copy engine (TMA), and the barriers in memory that they report to.
//
// **A copy.** One thread asks for a box of an array; the engine computes the addresses,
// writes zeros for what lies outside, swizzles (`wgmma.cuh`), and counts the bytes that
// have arrived. A TensorMap says where the array lies, its sizes, the box's, and the
// swizzle; the CUDA driver makes it (`tensor_map.py`), a kernel has it as a parameter,
//
//     const __grid_constant__ TensorMap k
//
// **A barrier** lies in shared memory. It goes through phases, 0, 1, 0, …: one ends
// when as many threads have arrived as barrier_init said, and all bytes they expected.
// barrier_wait(b, p) waits for the end of the phase p; for the phase before the first,
// which is a 1, it does not wait. So two sides hand a piece of memory to and fro with
// two barriers, full and free.
//
// Source: PTX ISA, cp.async.bulk.tensor, its swizzling modes, and mbarrier.
#pragma once

#ifdef MINIBIG_EMULATOR
#include "emulator/tma.h"
#else

struct __align__(64) TensorMap {
  char bits[128];
};
struct Barrier {
  unsigned long long bits;
};

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void barrier_init(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)),
               "r"(arrivals)
               : "memory");
}
// After it, and a __syncthreads, all threads and the copy engine see new barriers.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;" ::
                   : "memory");
}
__device__ __forceinline__ void barrier_arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b))
               : "memory");
}
// The same, and so many bytes more have to arrive before the phase ends.
__device__ __forceinline__ void barrier_arrive_expecting(Barrier* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   shared_address(b)),
               "r"(bytes)
               : "memory");
}
// Whether the phase is over; the thread may sleep for that, a microsecond at most.
__device__ __forceinline__ bool barrier_passed(Barrier* b, int phase) {
  unsigned passed;
  asm volatile("{ .reg .pred p; "
               "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, 1000; "
               "selp.u32 %0, 1, 0, p; }"
               : "=r"(passed)
               : "r"(shared_address(b)), "r"(phase)
               : "memory");
  return passed;
}
// False if it was in vain, after a second or so: a kernel that waits for ever cannot be
// stopped, and takes the GPU with it.
__device__ __forceinline__ bool barrier_wait(Barrier* b, int phase) {
#pragma unroll 1
  for (int tries = 0; tries < 1 << 20; tries++)
    if (barrier_passed(b, phase)) return true;
  return false;
}

// Begins to copy the box from column x and row y of a head on; what arrives is counted
// by `b`.
__device__ __forceinline__ void copy_box(void* to, const TensorMap& map, int x, int y,
                                         int head, int sequence, Barrier* b) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
      "l"(&map), "r"(x), "r"(y), "r"(head), "r"(sequence), "r"(shared_address(b))
      : "memory");
}
#endif
