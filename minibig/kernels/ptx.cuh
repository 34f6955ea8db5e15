// Number types of 16 bits, and PTX in short functions: what C++ has no word for.
//
// A GPU gets these lines. The emulator has plain C++ in their place (emulator/ptx.h),
// so that a kernel which uses nothing but these functions runs on both.
//
// float16 and the conversions run on every chip; pack of bfloat16, mma_m16n8k16 and
// copy_async need sm_80. A function that a kernel does not call is not compiled.
// Source: PTX ISA, chapter 9.7; fragments and matrices are drawn there.
#pragma once

// Bits alone: arithmetic happens in float. No header of CUDA's is needed for them.
struct float16 {
  unsigned short bits;  // 1 sign, 5 exponent, 10 fraction
};
struct bfloat16 {
  unsigned short bits;  // 1 sign, 8 exponent, 7 fraction: the upper half of a float
};

#ifdef MINIBIG_EMULATOR
#include "emulator/ptx.h"
#else

// Dynamic shared memory, whose size the launch decides.
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(128) type name[]

__device__ __forceinline__ float to_float(float16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

__device__ __forceinline__ void from_float(float x, float16& y) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
}

// Two numbers in one register, `low` in the lower half, as fragments hold them.
template <typename Number>
__device__ __forceinline__ unsigned pack(float low, float high);
template <>
__device__ __forceinline__ unsigned pack<float16>(float low, float high) {
  unsigned y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
template <>
__device__ __forceinline__ unsigned pack<bfloat16>(float low, float high) {
  unsigned y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

// sum += A B on a warp's tensor cores: A (16, 16), B (16, 8), sum (16, 8) in float.
template <typename Number>
__device__ __forceinline__ void mma_m16n8k16(float (&sum)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2]);
template <>
__device__ __forceinline__ void mma_m16n8k16<float16>(float (&sum)[4],
                                                      const unsigned (&a)[4],
                                                      const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma_m16n8k16<bfloat16>(float (&sum)[4],
                                                       const unsigned (&a)[4],
                                                       const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four (8, 8) matrices of 16 bits from shared memory to a warp's registers. Lane i
// gives the address of row i % 8 of matrix i / 8; it gets two neighbours of row i / 4
// of each, or, transposed, of column i / 4.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&x)[4], const void* row) {
  const unsigned address = (unsigned)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&x)[4],
                                                       const void* row) {
  const unsigned address = (unsigned)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}

// Begins to copy 16 bytes to shared memory, zeros where they lie outside of the matrix.
// They are there after copy_async_commit, which closes a group, and copy_async_wait<N>,
// which waits until N groups are left at most; other threads see them after a barrier.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool inside) {
  const unsigned address = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address),
               "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bfloat16 x) {
  return __uint_as_float((unsigned)x.bits << 16);
}

__device__ __forceinline__ void from_float(float x, float& y) { y = x; }
__device__ __forceinline__ void from_float(float x, bfloat16& y) {
  const unsigned bits = __float_as_uint(x);
  const unsigned nearest = bits + 0x7fff + (bits >> 16 & 1);  // ties to even
  y.bits = x != x ? 0x7fff : nearest >> 16;
}
