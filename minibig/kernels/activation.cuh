// What the activations share: a grid over numbers, and the constants of gelu.
#pragma once

constexpr int EACH = 4;  // numbers of a thread, a block apart: loads under way at once
constexpr float ROOT_HALF = 0.70710678f, ROOT_TWO_PI = 2.50662827f;
constexpr float TANH_SCALE = 0.79788456f, TANH_CUBIC = 0.044715f;  // √(2/π)

// Calls function(i, column) for the thread's numbers i of `count`, in rows of `width`.
template <typename Function>
__device__ __forceinline__ void for_own(long long count, int width, Function function) {
  const long long first = (long long)blockIdx.x * EACH * blockDim.x + threadIdx.x;
  int column = (int)(first % width);  // a slow division, once a thread
#pragma unroll
  for (int n = 0; n < EACH; n++) {
    const long long i = first + n * (int)blockDim.x;
    if (i < count) function(i, column);
    column = (column + (int)blockDim.x) % width;
  }
}

// Number i of x, with the bias of its column where there is one.
template <typename Number>
__device__ __forceinline__ float biased(const Number* x, const Number* bias, int column,
                                        long long i) {
  return to_float(x[i]) + (bias ? to_float(bias[column]) : 0.0f);
}

// Φ, the normal distribution function.
__device__ __forceinline__ float normal_cdf(float x) {
  return 0.5f + 0.5f * erff(x * ROOT_HALF);
}
__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }
