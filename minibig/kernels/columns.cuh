// Sums over rows, column by column, in two stages and always in the same order.
//
// One thread a column would keep few multiprocessors busy, and atomic additions come in
// another order each time. So many blocks share the rows, and leave parts, which a
// second kernel adds up. A block of 8 warps owns 32 columns: lane l of each warp adds
// up column l of every 8th row of the block's, side by side with its neighbours; then
// the 8 sums of a column are added up.
#pragma once

constexpr int WARPS = 8;

// The thread's column, the first of its rows, and how many rows on the next one is.
__device__ __forceinline__ int own_column() {
  return blockIdx.x * 32 + threadIdx.x % 32;
}
__device__ __forceinline__ int own_row() {
  return blockIdx.y * WARPS + threadIdx.x / 32;
}
__device__ __forceinline__ int row_step() { return gridDim.y * WARPS; }

// The sum of what the block's threads of one column have; all of them get it.
__device__ __forceinline__ float over_warps(float x) {
  __shared__ float of_warps[WARPS][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();  // all have read those of the last time
  of_warps[warp][lane] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < WARPS; i++) sum += of_warps[i][lane];
  return sum;
}

// The block's part of a column of a matrix of rows `stride` numbers apart: the sum of
// its rows below `rows`. `column` may lie outside: then none is read.
template <typename Number>
__device__ __forceinline__ float column_part(const Number* x, int rows, int column,
                                             int width, long long stride) {
  float sum = 0;
  if (column < width)
    for (long long r = own_row(); r < rows; r += row_step())
      sum += to_float(x[r * stride + column]);
  return over_warps(sum);
}
