// CUDA's words in plain C++: a grid of blocks of threads, run on one core of a CPU.
//
// Each thread of a block is a fiber, a function with its own stack that can stop in the
// middle. It runs until it has to wait: at __syncthreads, at __syncwarp, at a shuffle.
// Then another one goes on; the order of threads, warps and blocks is shuffled anew
// each time, so that a missing barrier shows in the result.
//
// What is wrong stops the launch with a message: a barrier that not all threads reach,
// different barriers reached at once, an address outside of the arrays (they lie
// between pages that no one may touch) or not aligned, an index outside of a C++ array.
#pragma once
#define MINIBIG_EMULATOR 1

#include <math.h>  // C's headers alone: C++'s take longer to compile than the kernels
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static thread_local  // one for all blocks, which clear it (memory.h)
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct int2 { int x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {
inline char* shared_memory;
// What machine.h does: let the other threads run until all have come to this line.
void wait_for_block(const char* file, int line);
void wait_for_warp(unsigned mask, const char* file, int line);
int lane();                          // of the running thread, 0 … 31
void* slot(int lane, int turn);      // 32 bytes of the warp that its lanes can see
int next_turn();                     // 0, 1, 0, …: a slot serves every other time

// Lets the others run until ready(what, value): waits that are no barrier of threads.
void wait_until(bool (*ready)(const void*, int), const void* what, int value,
                const char* file, int line);
inline int rounds;  // in each of them every warp ran as far as it could
[[noreturn]] void stop(const char* what);  // ends the launch: the thread `what`
inline unsigned blocks;            // that have begun: what is of another one is over
inline void (*at_end_of_block)();  // may call stop

// Shows `value` to the other lanes of the warp, once all are here: what lane i shows is
// then shown<Value>(i, turn), until the lane calls this again twice.
template <class Value>
int show(unsigned mask, const Value& value, const char* file, int line) {
  static_assert(sizeof(Value) <= 32, "a slot has 32 bytes");
  const int turn = next_turn();
  memcpy(slot(lane(), turn), &value, sizeof value);
  wait_for_warp(mask, file, line);
  return turn;
}
template <class Value>
const Value& shown(int lane, int turn) {
  return *(const Value*)slot(lane, turn);
}

// Copies of 16 bytes that the thread has begun; from null: zeros. Until it waits for
// them, their place holds NaN.
void copy_later(void* to, const void* from);
void close_copies();            // those since the last call are a group
void finish_copies(int groups);  // of which so many may be left

// What lane `source` of the warp shows, as __shfl_sync.
template <class Value>
Value from_lane(unsigned mask, Value value, int source, const char* file, int line) {
  return shown<Value>(source, show(mask, value, file, line));
}
// A lane outside of the warp: each gets its own value back.
inline int inside(int source) { return source >= 0 && source < 32 ? source : lane(); }
}  // namespace emulator

#define MINIBIG_ALL 0xffffffffu
#define __syncthreads() emulator::wait_for_block(__FILE__, __LINE__)
#define __syncwarp(...) emulator::wait_for_warp(MINIBIG_ALL, __FILE__, __LINE__)
#define MINIBIG_SHUFFLE(mask, value, source) \
  emulator::from_lane(mask, value, source, __FILE__, __LINE__)
#define __shfl_sync(mask, value, from) MINIBIG_SHUFFLE(mask, value, (from) & 31)
#define __shfl_xor_sync(mask, value, bits) \
  MINIBIG_SHUFFLE(mask, value, emulator::lane() ^ (bits))
#define __shfl_down_sync(mask, value, step) \
  MINIBIG_SHUFFLE(mask, value, emulator::inside(emulator::lane() + (int)(step)))
#define __shfl_up_sync(mask, value, step) \
  MINIBIG_SHUFFLE(mask, value, emulator::inside(emulator::lane() - (int)(step)))

// One thread runs at a time, so that these need no more than an addition.
namespace emulator {
template <class Number>
Number replace(Number* place, Number x) {
  const Number old = *place;
  *place = x;
  return old;
}
}  // namespace emulator
template <class Number>
Number atomicAdd(Number* p, Number x) { return emulator::replace(p, *p + x); }
template <class Number>
Number atomicMax(Number* p, Number x) { return emulator::replace(p, *p < x ? x : *p); }
template <class Number>
Number atomicMin(Number* p, Number x) { return emulator::replace(p, x < *p ? x : *p); }
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace emulator {
template <class To, class From>
To same_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
}  // namespace emulator
inline float __uint_as_float(unsigned x) { return emulator::same_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emulator::same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::same_bits<float>(x); }
inline int __float_as_int(float x) { return emulator::same_bits<int>(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }

namespace emulator {
// Calls a kernel with pointers to its arguments, as the CUDA driver does.
template <int... I> struct Numbers {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};  // 0 … N - 1
template <int... I> struct Count<0, I...> { using type = Numbers<I...>; };

template <class... Types, int... I>
void call(void (*kernel)(Types...), void** arguments, Numbers<I...>) {
  kernel(*(Types*)arguments[I]...);
}
template <class... Types>
void call(void (*kernel)(Types...), void** arguments) {
  call(kernel, arguments, typename Count<sizeof...(Types)>::type());
}
}  // namespace emulator
