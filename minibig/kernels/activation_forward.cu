// Activations of each number by itself, of a bias added to it first if there is one.
//
//   gelu       y = x Φ(x), Φ the normal distribution function
//   gelu_tanh  y = x (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³)
//   silu       y = x / (1 + e^-x)
//
// Shapes    x, y (count,), bias (width,) or absent: float, float16 or bfloat16;
//           number i gets bias i mod width; computed in float
// Thread    4 numbers
// Grid      (count / 1,024, rounded up); blocks of 256
// Moves     x and y once; the bias is small, and stays in the cache
// FLOPs     about 20 a number
// Source    gelu and its form with tanh: arXiv 1606.08415; silu: 1702.03118
// Improves  on a kernel for each product, sum and function, and on one for the bias
#include "ptx.cuh"
#include "activation.cuh"

template <typename Number>
__global__ void gelu_forward(const Number* x, const Number* bias, int width,
                             Number* y, long long count) {
  for_own(count, width, [&](long long i, int column) {
    const float value = biased(x, bias, column, i);
    from_float(value * normal_cdf(value), y[i]);
  });
}

template <typename Number>
__global__ void gelu_tanh_forward(const Number* x, const Number* bias, int width,
                                  Number* y, long long count) {
  for_own(count, width, [&](long long i, int column) {
    const float value = biased(x, bias, column, i);
    const float u = TANH_SCALE * value * (1 + TANH_CUBIC * value * value);
    from_float(0.5f * value * (1 + tanhf(u)), y[i]);
  });
}

template <typename Number>
__global__ void silu_forward(const Number* x, const Number* bias, int width,
                             Number* y, long long count) {
  for_own(count, width, [&](long long i, int column) {
    const float value = biased(x, bias, column, i);
    from_float(value * sigmoid(value), y[i]);
  });
}
