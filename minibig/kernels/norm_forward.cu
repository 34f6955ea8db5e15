// Layer norm of rows (CENTRE), or RMS norm, with scale and shift.
//
//   mean  = Σ x / C, or 0 in an RMS norm
//   scale = 1 / √(Σ (x - mean)² / C + eps)
//   y     = (x - mean) scale weight + bias
//
// Shapes    x, y (N, C); weight, bias (C,) or null: float, float16 or bfloat16; mean
//           (N,), null in an RMS norm, and scale (N,), float, kept for the backward pass
// Thread    every blockDim-th number of a row
// Grid      (N); blocks of 32 to 512 threads, by the width C
// Moves     x and y once; x twice more, as a rule from a cache
// FLOPs     8 a number, or 5
// Source    arXiv 1607.06450; RMS norm 1910.07467. The mean comes first and the squares
//           are of what is left: E(x²) - E(x)² would lose digits
// Improves  on a kernel each for mean, difference, square, mean, root, product and sum
#include "ptx.cuh"
#include "rows.cuh"

template <typename Number, bool CENTRE>
__global__ void norm_forward(const Number* x, const Number* weight, const Number* bias,
                             Number* y, float* mean, float* scale, int width,
                             float eps) {
  x = row_of(x, width), y = row_of(y, width);
  float centre = 0, squares = 0;
  if (CENTRE) {
    for (int i = threadIdx.x; i < width; i += blockDim.x) centre += to_float(x[i]);
    centre = block_sum(centre) / width;
  }
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float rest = to_float(x[i]) - centre;
    squares += rest * rest;
  }
  const float factor = 1 / sqrtf(block_sum(squares) / width + eps);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float value = (to_float(x[i]) - centre) * factor;
    if (weight) value *= to_float(weight[i]);
    if (bias) value += to_float(bias[i]);
    from_float(value, y[i]);
  }
  if (threadIdx.x == 0) {
    if (CENTRE) mean[blockIdx.x] = centre;
    scale[blockIdx.x] = factor;
  }
}
