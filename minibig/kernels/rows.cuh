// Rows that a block of threads shares: sums and maxima, always in the same order.
//
// A block has whole warps, 32 at most. Every thread gets the result.
#pragma once

#define INFINITE __int_as_float(0x7f800000)

// The block's part of an array of rows: row number blockIdx.x.
template <typename Number>
__device__ __forceinline__ Number* row_of(Number* x, int width) {
  return x + (long long)blockIdx.x * width;
}

__device__ __forceinline__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}
template <typename Sum>
__device__ __forceinline__ Sum warp_sum(Sum x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

// Every warp leaves one number, and every warp reads them all.
template <typename Sum>
__device__ __forceinline__ Sum of_other_warps(Sum x, Sum none) {
  __shared__ Sum parts[32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();  // all have read the parts of the last time
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  return lane < (int)blockDim.x / 32 ? parts[lane] : none;
}

__device__ __forceinline__ float block_max(float x) {
  return warp_max(of_other_warps(warp_max(x), -INFINITE));
}
template <typename Sum>
__device__ __forceinline__ Sum block_sum(Sum x) {
  return warp_sum(of_other_warps(warp_sum(x), Sum(0)));
}

// Of a row: its largest number, and Σ e^(x - top), found in one reading. Each thread
// keeps the largest number so far; where a larger one comes, its sum shrinks.
struct Exponentials { float top, total; };

template <typename Number>
__device__ __forceinline__ Exponentials exponentials(const Number* x, int width) {
  float top = -INFINITE, total = 0;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float value = to_float(x[i]);
    if (value > top) {
      total = total * expf(top - value) + 1;
      top = value;
    } else if (value != -INFINITE) {
      total += expf(value - top);
    }
  }
  const float high = block_max(top);
  return {high, block_sum(total == 0 ? 0 : total * expf(top - high))};
}
