// The backward pass of activations: dy times the slope, computed from x once more.
//
//   gelu       dx = dy (Φ(x) + x φ(x)), φ(x) = e^(-x²/2) / √(2π)
//   gelu_tanh  dx = dy (1 + t + x u' (1 - t²)) / 2, t = tanh u, u as in the forward pass
//   silu       dx = dy s (1 + x (1 - s)), s = 1 / (1 + e^-x)
//
// Shapes    x, dy, dx (count,), bias (width,) or absent, as in the forward pass: float,
//           float16 or bfloat16; computed in float
// Thread    4 numbers
// Grid      (count / 1,024, rounded up); blocks of 256
// Moves     x, dy and dx once
// FLOPs     about 30 a number
// Source    gelu and its form with tanh: arXiv 1606.08415; silu: 1702.03118
// Improves  on a kernel for each product, sum and function
#include "ptx.cuh"
#include "activation.cuh"

template <typename Number>
__global__ void gelu_backward(const Number* x, const Number* bias, int width,
                              const Number* dy, Number* dx, long long count) {
  for_own(count, width, [&](long long i, int column) {
    const float value = biased(x, bias, column, i);
    const float density = expf(-0.5f * value * value) / ROOT_TWO_PI;
    from_float(to_float(dy[i]) * (normal_cdf(value) + value * density), dx[i]);
  });
}

template <typename Number>
__global__ void gelu_tanh_backward(const Number* x, const Number* bias, int width,
                                   const Number* dy, Number* dx, long long count) {
  for_own(count, width, [&](long long i, int column) {
    const float value = biased(x, bias, column, i), square = value * value;
    const float t = tanhf(TANH_SCALE * value * (1 + TANH_CUBIC * square));
    const float du = TANH_SCALE * (1 + 3 * TANH_CUBIC * square);
    const float slope = 0.5f * (1 + t + value * du * (1 - t * t));
    from_float(to_float(dy[i]) * slope, dx[i]);
  });
}

template <typename Number>
__global__ void silu_backward(const Number* x, const Number* bias, int width,
                              const Number* dy, Number* dx, long long count) {
  for_own(count, width, [&](long long i, int column) {
    const float value = biased(x, bias, column, i), s = sigmoid(value);
    from_float(to_float(dy[i]) * s * (1 + value * (1 - s)), dx[i]);
  });
}
