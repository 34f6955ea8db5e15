// Sums over all rows, such as the gradient of a bias: y[c] = Σ_n x[n, c].
//
//   column_parts  sums over some of the rows
//   column_sums   sums of the parts
//
// Shapes    x (N, C) and y (C,): float, float16 or bfloat16; parts (P, C), float
// Thread    every 8 P-th number of a column; every 8th of its parts (`columns.cuh`)
// Grid      (C / 32, P); (C / 32); blocks of 8 warps
// Moves     x once, the parts twice
// FLOPs     1 a number
// Source    Harris, "Optimizing Parallel Reduction in CUDA" (2007), for columns
// Improves  on a sum in one stage: with 32 columns a block, 768 columns would keep 24
//           multiprocessors busy, whatever the number of rows
#include "ptx.cuh"
#include "columns.cuh"

template <typename Number>
__global__ void column_parts(const Number* x, float* parts, int rows, int width) {
  const int column = own_column();
  const float sum = column_part(x, rows, column, width, width);
  if (threadIdx.x < 32 && column < width)
    parts[(long long)blockIdx.y * width + column] = sum;
}

template <typename Number>
__global__ void column_sums(const float* parts, Number* y, int count, int width) {
  const int column = own_column();
  const float sum = column_part(parts, count, column, width, width);
  if (threadIdx.x < 32 && column < width) from_float(sum, y[column]);
}
