// Attention, rung 2, backward: the naive rung's four products, in tiles.
//
//   dP = dO Vᵀ                     the forward's `scores`, without mask and scale
//   dS = P (dP - Σ_s P dP) scale   softmax_backward, below; it overwrites dP
//   dQ = dS K                      the forward's `weighted_sum`
//   dV = Pᵀ dO, dK = dSᵀ Q         transposed_sum, below, launched twice
//
// transposed_sum walks through the queries of all heads that share a head of keys, 32
// at a time, and turns p on its way into shared memory. No two threads write to one
// place: every run gives the same bits.
//
// Shapes    p, dp (B, H, T, S); x (B, H, T, D), dO or Q; dx (B, G, S, D), dV or dK
// Thread    4 × 8 numbers of a block's 64 keys × 64 columns; in softmax_backward a warp
//           takes a row
// Grid      (tiles of a matrix, G, B); blocks of 128. In softmax_backward (B H T / 4)
// Moves     p twice and dp five times; of the others a 64th of what naive reads
// FLOPs     8 B H T S D, in four products
// Source    arXiv 1706.03762, equation 1; softmax's rule dS = (diag(p) - p pᵀ) dP
// Improves  on naive
#include "ptx.cuh"
#include "attention.cuh"
#include "tile.cuh"

constexpr int SIDE = 64, DEPTH = 32, STRIDE = DEPTH + 4, WIDE = SIDE + 4;

__global__ void attention_tiled_softmax_backward(const float* p, float* dp, int S,
                                                 float scale, long long rows) {
  const int lane = threadIdx.x % 32;
  const long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;  // the whole warp
  p += row * S;
  dp += row * S;
  float mean = 0;
  for (int s = lane; s < S; s += 32) mean += p[s] * dp[s];
  for (int step = 16; step > 0; step /= 2)
    mean += __shfl_xor_sync(0xffffffff, mean, step);
  for (int s = lane; s < S; s += 32) dp[s] = p[s] * (dp[s] - mean) * scale;
}

__global__ void __launch_bounds__(128) attention_tiled_transposed_sum(
    const float* p, const float* x, float* dx, int heads, int kv_heads, int T, int S,
    int D) {
  __shared__ __align__(16) float a[SIDE * STRIDE], b[DEPTH * WIDE];
  const int tiles = (D + SIDE - 1) / SIDE, group = heads / kv_heads;
  const int first_s = blockIdx.x / tiles * SIDE, first_d = blockIdx.x % tiles * SIDE;
  const long long kv_head = (long long)blockIdx.z * kv_heads + blockIdx.y;
  float sum[4][8] = {};
  for (long long head = kv_head * group; head < (kv_head + 1) * group; head++) {
    for (int t = 0; t < T; t += DEPTH) {
      const long long row = head * T + t;
      __syncthreads();  // all are done with the tiles before
      for (int i = threadIdx.x; i < SIDE * DEPTH; i += THREADS) {
        const int s = i % SIDE, query = i / SIDE;  // neighbours read neighbours
        const bool inside = first_s + s < S && t + query < T;
        a[s * STRIDE + query] = inside ? p[(row + query) * S + first_s + s] : 0;
      }
      load_tile<DEPTH, SIDE, WIDE>(b, x + row * D + first_d, D, T - t, D - first_d);
      __syncthreads();
      add_product<DEPTH, STRIDE, WIDE>(sum, a, b);
    }
  }
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 8; j++) {
      const int s = first_s + tile_y() * 4 + i, d = first_d + pair_column(j);
      if (s < S && d < D) dx[(kv_head * S + s) * D + d] = sum[i][j];
    }
  }
}
