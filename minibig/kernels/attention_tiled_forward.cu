// Attention, rung 2: the naive rung's three kernels, their products in tiles.
//
//   scores        p = Q Kᵀ scale, -inf where a query may not see a key
//   softmax       each row of p, in place
//   weighted_sum  out = P V
//
// Shapes    q, out (B, H, T, D); k, v (B, G, S, D); mask (B, S) or null; p (B, H, T, S)
// Thread    4 × 8 numbers of a block's 64 × 64; both matrices pass through shared
//           memory, 32 deep. In softmax a warp takes a row, its lanes neighbouring
//           columns
// Grid      (tiles of a matrix, H, B); blocks of 128. In softmax (B H T / 4)
// Moves     p as the naive rung; of q, k, v a 64th of what that one reads: a number
//           brought into shared memory serves 64 products
// FLOPs     4 B H T S D, in two products
// Source    arXiv 1706.03762, equation 1
// Improves  on naive
#include "ptx.cuh"
#include "attention.cuh"
#include "tile.cuh"

constexpr int SIDE = 64, DEPTH = 32, STRIDE = DEPTH + 4, WIDE = SIDE + 4;

__global__ void __launch_bounds__(128) attention_tiled_scores(
    const float* q, const float* k, const bool* mask, float* p, int heads, int kv_heads,
    int T, int S, int D, int offset, float scale) {
  __shared__ __align__(16) float a[SIDE * STRIDE], b[SIDE * STRIDE];
  const int tiles = (S + SIDE - 1) / SIDE;
  const int first_t = blockIdx.x / tiles * SIDE, first_s = blockIdx.x % tiles * SIDE;
  const int batch = blockIdx.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long row = ((long long)batch * heads + head) * T + first_t;
  const long long kv_row = ((long long)batch * kv_heads + kv_head) * S + first_s;
  float sum[4][8] = {};
  for (int d = 0; d < D; d += DEPTH) {
    __syncthreads();  // all are done with the tiles before
    load_tile<SIDE, DEPTH, STRIDE>(a, q + row * D + d, D, T - first_t, D - d);
    load_tile<SIDE, DEPTH, STRIDE>(b, k + kv_row * D + d, D, S - first_s, D - d);
    __syncthreads();
    add_product_transposed<DEPTH, STRIDE>(sum, a, b);
  }
  mask = mask_of(mask, batch, S);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 8; j++) {
      const int y = tile_y() * 4 + i, t = first_t + y, s = first_s + row_column(j);
      if (t < T && s < S)
        p[(row + y) * S + s] =
            may_attend(t, s, S, offset, mask) ? sum[i][j] * scale : -INFINITE;
    }
  }
}

__global__ void attention_tiled_softmax(float* p, int S, long long rows) {
  const int lane = threadIdx.x % 32;
  const long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;  // the whole warp
  p += row * S;
  float top = -INFINITE, total = 0;
  for (int s = lane; s < S; s += 32) top = fmaxf(top, p[s]);
  for (int step = 16; step > 0; step /= 2)
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, step));
  if (top == -INFINITE) top = 0;  // a row that sees nothing: exp(-inf) = 0 throughout
  for (int s = lane; s < S; s += 32) total += p[s] = expf(p[s] - top);
  for (int step = 16; step > 0; step /= 2)
    total += __shfl_xor_sync(0xffffffff, total, step);
  for (int s = lane; s < S; s += 32) p[s] = total != 0 ? p[s] / total : 0;
}

__global__ void __launch_bounds__(128) attention_tiled_weighted_sum(
    const float* p, const float* v, float* out, int heads, int kv_heads, int T, int S,
    int D) {
  __shared__ __align__(16) float a[SIDE * STRIDE], b[DEPTH * WIDE];
  const int tiles = (D + SIDE - 1) / SIDE;
  const int first_t = blockIdx.x / tiles * SIDE, first_d = blockIdx.x % tiles * SIDE;
  const int batch = blockIdx.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long row = ((long long)batch * heads + head) * T + first_t;
  const float* values = v + ((long long)batch * kv_heads + kv_head) * S * D + first_d;
  float sum[4][8] = {};
  for (int s = 0; s < S; s += DEPTH) {
    __syncthreads();  // all are done with the tiles before
    load_tile<SIDE, DEPTH, STRIDE>(a, p + row * S + s, S, T - first_t, S - s);
    load_tile<DEPTH, SIDE, WIDE>(b, values + (long long)s * D, D, S - s, D - first_d);
    __syncthreads();
    add_product<DEPTH, STRIDE, WIDE>(sum, a, b);
  }
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 8; j++) {
      const int y = tile_y() * 4 + i, d = first_d + pair_column(j);
      if (first_t + y < T && d < D) out[(row + y) * D + d] = sum[i][j];
    }
  }
}
