// Products on the tensor cores of Hopper (sm_90a), for warpgroups of 4 warps.
//
// **The instruction.** wgmma.m64nNk16 belongs to a warpgroup, whose first warp's number
// divides by 4: C (64, N) += A (64, 16) B (16, N), A and B in 16 bits, C in float. Warp
// w holds rows 16 w … 16 w + 15 of C, as N / 8 of the C that are drawn in `mma.cuh`; so
// it holds those of A, where A is in registers. B, and A elsewhere, stay in shared
// memory, and the tensor cores read them there: no ldmatrix, no registers.
//
// **It is asynchronous.** The threads go on at once. Between wgmma_fence and the wait
// nobody may touch C, nor A in registers, nor what lies in shared memory. wgmma_commit
// closes a group of products; wgmma_wait<N> waits until N groups are left at most.
//
// **Where an operand lies**, 64 bits say, its descriptor: where it starts, how it is
// swizzled, how far it is to the next piece of it. Here tiles lie in blocks of 64
// columns. A row of a block has 128 bytes, and their 16-byte chunks change places as in
// `mma.cuh`; the pattern repeats after 8 rows, 1,024 bytes, so a block starts at a
// multiple of that. Address bits 4 … 6 are exclusive-or'd with bits 7 … 9.
//
// Source: PTX ISA, chapter 9.7.15 (wgmma, its fragments, shared-memory layouts and
// matrix descriptor).
#pragma once

constexpr int BLOCK = 64;                  // columns of a block
constexpr int EIGHT_ROWS = 8 * BLOCK * 2;  // bytes

// Shared memory from the next address on at which a block may start.
template <typename Type>
__device__ __forceinline__ Type& at_block(char* memory) {
  const size_t beyond = (size_t)memory % EIGHT_ROWS;
  return *(Type*)(memory + (EIGHT_ROWS - beyond) % EIGHT_ROWS);
}

// A descriptor: 14 bits each of the address, of the bytes from one block of 64 columns
// to the next (`leading`: read where the rows of the operand go along n, and N > 64),
// and of the bytes from eight rows to the next eight, all in 16s; bit 62: swizzle of
// 128 bytes.
__device__ __forceinline__ unsigned long long describe(unsigned address, int leading) {
  return (unsigned long long)((address & 0x3ffff) >> 4) |
         (unsigned long long)(leading >> 4) << 16 |
         (unsigned long long)(EIGHT_ROWS >> 4) << 32 | 1ull << 62;
}

#ifdef MINIBIG_EMULATOR
#include "emulator/wgmma.h"
#else

__device__ __forceinline__ unsigned long long descriptor_of(const void* p,
                                                            int leading = 16) {
  return describe((unsigned)__cvta_generic_to_shared(p), leading);
}

// Registers written before it may be read by the products after it.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// The same, but not before `x` is computed. A compiler sees nothing that would have to
// happen first, and likes to wait early; a store that needs x keeps it from that, and
// what x is made of runs beside the products.
template <int N>
__device__ __forceinline__ void wgmma_wait_after(float x, volatile float* anywhere) {
  anywhere[threadIdx.x] = x;
  wgmma_wait<N>();
}

// A warpgroup takes more registers a thread than the launch gave it, once another one
// has given some back. N divides by 8.
template <int N>
__device__ __forceinline__ void set_registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void set_registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

template <typename Number>
constexpr bool IS_BFLOAT16 = false;
template <>
constexpr bool IS_BFLOAT16<bfloat16> = true;

// The instruction's text wants a name for each of a thread's 32 or 64 numbers of C; how
// is "+", read and written, or "=", written alone.
#define MINIBIG_C4(how, i) \
  how "f"(c[i][0]), how "f"(c[i][1]), how "f"(c[i][2]), how "f"(c[i][3])
#define MINIBIG_C16(how, i) \
  MINIBIG_C4(how, i), MINIBIG_C4(how, i + 1), MINIBIG_C4(how, i + 2), \
      MINIBIG_C4(how, i + 3)
#define MINIBIG_C32(how) MINIBIG_C16(how, 0), MINIBIG_C16(how, 4)
#define MINIBIG_C64(how) MINIBIG_C32(how), MINIBIG_C16(how, 8), MINIBIG_C16(how, 12)
#define MINIBIG_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MINIBIG_64 \
  MINIBIG_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, " \
  "%45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, " \
  "%61, %62, %63"
#define MINIBIG_WGMMA(N, KIND) \
  "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." KIND "." KIND " "

// Both from shared memory, their rows along k. p: add to what is in C; then 1 A, 1 B,
// neither turned.
#define MINIBIG_TRANSPOSED(N, KIND, NAMES, A, B, ADD, ...) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, " ADD ", 0; " MINIBIG_WGMMA(N, KIND) \
               "{" NAMES "}, " A ", " B ", p, 1, 1, 0, 0; }" \
               : __VA_ARGS__ : "l"(a), "l"(b))
#define MINIBIG_TRANSPOSED_64(KIND, ADD, how) \
  MINIBIG_TRANSPOSED("64", KIND, MINIBIG_32, "%32", "%33", ADD, MINIBIG_C32(how))
#define MINIBIG_TRANSPOSED_128(KIND, ADD, how) \
  MINIBIG_TRANSPOSED("128", KIND, MINIBIG_64, "%64", "%65", ADD, MINIBIG_C64(how))
// A from registers; TURNED: B's rows go along n.
#define MINIBIG_OF_REGISTERS(N, KIND, NAMES, A, B, ADD, TURNED, ...) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, " ADD ", 0; " MINIBIG_WGMMA(N, KIND) \
               "{" NAMES "}, {" A "}, " B ", p, 1, 1, " TURNED "; }" \
               : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define MINIBIG_OF_REGISTERS_64(KIND, ADD, TURNED, how) \
  MINIBIG_OF_REGISTERS("64", KIND, MINIBIG_32, "%32, %33, %34, %35", "%36", ADD, \
                       TURNED, MINIBIG_C32(how))
#define MINIBIG_OF_REGISTERS_128(KIND) \
  MINIBIG_OF_REGISTERS("128", KIND, MINIBIG_64, "%64, %65, %66, %67", "%68", "1", "1", \
                       MINIBIG_C64("+"))

// Begins C = A Bᵀ: A (64, 16) and B (N, 16) by their descriptors. What was in C is not
// read: registers that something else has written would make all products wait.
template <typename Number, int N>
__device__ __forceinline__ void wgmma_transposed_first(float (&c)[N / 8][4],
                                                       unsigned long long a,
                                                       unsigned long long b) {
  static_assert(N == 64 || N == 128, "other N have no text here");
  if constexpr (N == 128 && IS_BFLOAT16<Number>)
    MINIBIG_TRANSPOSED_128("bf16", "0", "=");
  else if constexpr (N == 128)
    MINIBIG_TRANSPOSED_128("f16", "0", "=");
  else if constexpr (IS_BFLOAT16<Number>)
    MINIBIG_TRANSPOSED_64("bf16", "0", "=");
  else
    MINIBIG_TRANSPOSED_64("f16", "0", "=");
}

// Begins C += A Bᵀ, likewise.
template <typename Number, int N>
__device__ __forceinline__ void wgmma_transposed(float (&c)[N / 8][4],
                                                 unsigned long long a,
                                                 unsigned long long b) {
  if constexpr (N == 128 && IS_BFLOAT16<Number>)
    MINIBIG_TRANSPOSED_128("bf16", "1", "+");
  else if constexpr (N == 128)
    MINIBIG_TRANSPOSED_128("f16", "1", "+");
  else if constexpr (IS_BFLOAT16<Number>)
    MINIBIG_TRANSPOSED_64("bf16", "1", "+");
  else
    MINIBIG_TRANSPOSED_64("f16", "1", "+");
}

// The same with A (64, 16) in registers.
template <typename Number, int N>
__device__ __forceinline__ void wgmma_transposed_first(float (&c)[N / 8][4],
                                                       const unsigned (&a)[4],
                                                       unsigned long long b) {
  static_assert(N == 64, "other N have no text here");
  if constexpr (IS_BFLOAT16<Number>)
    MINIBIG_OF_REGISTERS_64("bf16", "0", "0", "=");
  else
    MINIBIG_OF_REGISTERS_64("f16", "0", "0", "=");
}
template <typename Number, int N>
__device__ __forceinline__ void wgmma_transposed(float (&c)[N / 8][4],
                                                 const unsigned (&a)[4],
                                                 unsigned long long b) {
  if constexpr (IS_BFLOAT16<Number>)
    MINIBIG_OF_REGISTERS_64("bf16", "1", "0", "+");
  else
    MINIBIG_OF_REGISTERS_64("f16", "1", "0", "+");
}

// Begins C += A B: A (64, 16) in registers, B (16, N) by its descriptor.
template <typename Number, int N>
__device__ __forceinline__ void wgmma(float (&c)[N / 8][4], const unsigned (&a)[4],
                                      unsigned long long b) {
  static_assert(N == 64 || N == 128, "other N have no text here");
  if constexpr (N == 128 && IS_BFLOAT16<Number>)
    MINIBIG_OF_REGISTERS_128("bf16");
  else if constexpr (N == 128)
    MINIBIG_OF_REGISTERS_128("f16");
  else if constexpr (IS_BFLOAT16<Number>)
    MINIBIG_OF_REGISTERS_64("bf16", "1", "1", "+");
  else
    MINIBIG_OF_REGISTERS_64("f16", "1", "1", "+");
}
#endif
