// What the activations share: a grid over numbers, and the constants of gelu.
#pragma once

constexpr int EACH = 4;  // numbers of a thread, a block apart: loads under way at once
constexpr float ROOT_HALF = 0.70710678f, ROOT_TWO_PI = 2.50662827f;
constexpr float TANH_SCALE = 0.79788456f, TANH_CUBIC = 0.044715f;  // √(2/π)

// Calls function(i) for the thread's numbers i of `count`.
template <typename Function>
__device__ __forceinline__ void for_own(long long count, Function function) {
  const long long first = (long long)blockIdx.x * EACH * blockDim.x + threadIdx.x;
#pragma unroll
  for (int n = 0; n < EACH; n++) {
    const long long i = first + n * (int)blockDim.x;
    if (i < count) function(i);
  }
}

// Φ, the normal distribution function.
__device__ __forceinline__ float normal_cdf(float x) {
  return 0.5f + 0.5f * erff(x * ROOT_HALF);
}
__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }
