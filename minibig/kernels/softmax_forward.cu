// Softmax of rows, and its logarithm: one reading for what a row needs, one to write.
//
//   softmax      y = e^(x - top) / Σ e^(x - top), top the row's largest number
//   log_softmax  y = x - top - log Σ e^(x - top)
//
// Shapes    x, y (N, width): float, float16 or bfloat16; computed in float
// Thread    every blockDim-th number of a row
// Grid      (N); blocks of 32 to 512 threads, by the width
// Moves     x and y once; x a second time, as a rule from a cache
// FLOPs     about 6 a number, two exponentials among them
// Source    the sum on the way: arXiv 1805.02867, algorithm 3
// Improves  on a kernel each for maximum, difference, exponential, sum and quotient
#include "ptx.cuh"
#include "rows.cuh"

template <typename Number>
__global__ void softmax_forward(const Number* x, Number* y, int width) {
  x = row_of(x, width), y = row_of(y, width);
  const Exponentials row = exponentials(x, width);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    from_float(expf(to_float(x[i]) - row.top) / row.total, y[i]);
}

template <typename Number>
__global__ void log_softmax_forward(const Number* x, Number* y, int width) {
  x = row_of(x, width), y = row_of(y, width);
  const Exponentials row = exponentials(x, width);
  const float shift = logf(row.total);
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    from_float(to_float(x[i]) - row.top - shift, y[i]);
}
