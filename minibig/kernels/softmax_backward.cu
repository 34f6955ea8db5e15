// The backward pass of softmax and of its logarithm, from what they gave.
//
//   softmax      dx = y (dy - Σ dy y)
//   log_softmax  dx = dy - e^y Σ dy
//
// Shapes    y, dy, dx (N, width): float, float16 or bfloat16; computed in float
// Thread    every blockDim-th number of a row
// Grid      (N); blocks of 32 to 512 threads, by the width
// Moves     y, dy and dx once; y and dy a second time, as a rule from a cache
// FLOPs     4 a number, or 3 and an exponential
// Source    the Jacobian diag(y) - y yᵀ, and its logarithm's, applied to dy
// Improves  on a kernel each for product, sum, difference and product
#include "ptx.cuh"
#include "rows.cuh"

template <typename Number>
__global__ void softmax_backward(const Number* y, const Number* dy, Number* dx,
                                 int width) {
  y = row_of(y, width), dy = row_of(dy, width), dx = row_of(dx, width);
  float sum = 0;
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    sum += to_float(dy[i]) * to_float(y[i]);
  sum = block_sum(sum);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    from_float(to_float(y[i]) * (to_float(dy[i]) - sum), dx[i]);
}

template <typename Number>
__global__ void log_softmax_backward(const Number* y, const Number* dy, Number* dx,
                                     int width) {
  y = row_of(y, width), dy = row_of(dy, width), dx = row_of(dx, width);
  float sum = 0;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += to_float(dy[i]);
  sum = block_sum(sum);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    from_float(to_float(dy[i]) - expf(to_float(y[i])) * sum, dx[i]);
}
