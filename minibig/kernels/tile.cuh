// Products of small matrices in shared memory, for a block of 128 threads.
//
// The threads stand in 16 rows of 8: thread y 8 + x. Of a product it computes R rows, y
// R … y R + R - 1, and C columns, kept in registers: each number that it reads from
// shared memory then serves R or C multiplications instead of one. A warp owns 4 R
// whole rows, so that what concerns a row needs no more than shuffles.
#pragma once

constexpr int THREADS = 128;

__device__ __forceinline__ int tile_y() { return threadIdx.x / 8; }
__device__ __forceinline__ int tile_x() { return threadIdx.x % 8; }

// Columns of a thread. Of A Bᵀ they are rows of B, read four numbers at a time: eight
// neighbouring rows, each 4 banks further, if the stride is 4 more than a multiple of
// 8.
__device__ __forceinline__ int row_column(int j) { return tile_x() + 8 * j; }
// Of A B they are pairs of neighbours in a row of B.
__device__ __forceinline__ int pair_column(int j) {
  return 2 * tile_x() + j / 2 * 16 + j % 2;
}

// Copies a (ROWS, WIDTH) part of a matrix into shared memory, zeros beyond its `rows`
// and `width`. Neighbouring threads read neighbouring numbers.
template <int ROWS, int WIDTH, int STRIDE, typename Number>
__device__ __forceinline__ void load_tile(float* tile, const Number* matrix,
                                          long long row_length, int rows, int width) {
  for (int i = threadIdx.x; i < ROWS * WIDTH; i += THREADS) {
    const int r = i / WIDTH, c = i % WIDTH;
    const bool inside = r < rows && c < width;
    tile[r * STRIDE + c] = inside ? to_float(matrix[r * row_length + c]) : 0;
  }
}

// sum += A Bᵀ: sum[i][j] += Σ_d a[row i][d] b[row_column(j)][d].
template <int DEPTH, int STRIDE, int R, int C>
__device__ __forceinline__ void add_product_transposed(float (&sum)[R][C],
                                                       const float* a, const float* b) {
#pragma unroll 2
  for (int d = 0; d < DEPTH; d += 4) {
    float4 x[R];
#pragma unroll
    for (int i = 0; i < R; i++)
      x[i] = *(const float4*)&a[(tile_y() * R + i) * STRIDE + d];
#pragma unroll
    for (int j = 0; j < C; j++) {
      const float4 y = *(const float4*)&b[row_column(j) * STRIDE + d];
#pragma unroll
      for (int i = 0; i < R; i++) {
        sum[i][j] += x[i].x * y.x;
        sum[i][j] += x[i].y * y.y;
        sum[i][j] += x[i].z * y.z;
        sum[i][j] += x[i].w * y.w;
      }
    }
  }
}

// sum += A B: sum[i][j] += Σ_c a[row i][c] b[c][pair_column(j)].
template <int DEPTH, int A_STRIDE, int B_STRIDE, int R, int C>
__device__ __forceinline__ void add_product(float (&sum)[R][C], const float* a,
                                            const float* b) {
#pragma unroll 1
  for (int c = 0; c < DEPTH; c += 4) {
    __align__(16) float x[R][4];
#pragma unroll
    for (int i = 0; i < R; i++)
      *(float4*)x[i] = *(const float4*)&a[(tile_y() * R + i) * A_STRIDE + c];
#pragma unroll
    for (int n = 0; n < 4; n++) {
#pragma unroll
      for (int j = 0; j < C; j += 2) {
        const float2 y = *(const float2*)&b[(c + n) * B_STRIDE + pair_column(j)];
#pragma unroll
        for (int i = 0; i < R; i++) {
          sum[i][j] += x[i][n] * y.x;
          sum[i][j + 1] += x[i][n] * y.y;
        }
      }
    }
  }
}

// The largest number, or the sum, of the 8 threads that share a row.
__device__ __forceinline__ float row_max(float x) {
  for (int step = 4; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}
__device__ __forceinline__ float row_sum(float x) {
  for (int step = 4; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}
