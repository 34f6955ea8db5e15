// Attention, rung 3: flash attention in float32. One kernel, and no array of scores.
//
// A block holds 64 queries and walks through the keys, 32 at a time. Of each query's
// row it keeps the largest score so far, m, and the sums l = Σ e^(s - m), o = Σ e^(s -
// m) v. Where a tile brings a larger score, what was summed under the old m shrinks by
// e^(m_old - m_new): online softmax. In the end out = o / l, and one number a row is
// kept for the backward pass: lse = m + log l.
//
// Shapes    q, out (B, H, T, D); k, v (B, G, S, D); mask (B, S) or null; lse (B, H, T),
//           float. Numbers are float, float16 or bfloat16, sums float; D divides by 16
// Thread    4 queries × 4 keys of the scores, 4 queries × D/8 columns of the result
// Grid      (tiles of 64 queries, H, B), those with most keys first; blocks of 128
// Shared    64 queries, 32 keys (later their values, in the same place), the tile's
//           weights
// Moves     at least q, k, v, out and lse once: memory is linear in T and S. k and v
//           are read T/64 times, mostly from the L2 cache
// FLOPs     4 B H T S D; causal tiles that no query of a block sees are not visited
// Source    arXiv 2205.14135, algorithm 1, its loops as in 2307.08691; online softmax
//           1805.02867
// Improves  on tiled
#include "ptx.cuh"
#include "attention.cuh"
#include "tile.cuh"

template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) attention_flash_forward(
    const Number* q, const Number* k, const Number* v, const bool* mask, Number* out,
    float* lse, int heads, int kv_heads, int T, int S, int offset, float scale) {
  constexpr int QUERIES = 64, KEYS = 32, R = QUERIES / 16, C = KEYS / 8;
  constexpr int STRIDE = D + 4, P_STRIDE = KEYS + 4;
  DYNAMIC_SHARED(float, memory);
  float* queries = memory;                     // (QUERIES, STRIDE)
  float* keys = queries + QUERIES * STRIDE;    // (KEYS, STRIDE)
  float* weights = keys + KEYS * STRIDE;       // (QUERIES, P_STRIDE)
  float* values = keys;                        // once the scores are done

  const int first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  const int batch = blockIdx.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long row = ((long long)batch * heads + head) * T + first;
  const long long kv_row = ((long long)batch * kv_heads + kv_head) * S;
  mask = mask_of(mask, batch, S);
  load_tile<QUERIES, D, STRIDE>(queries, q + row * D, D, T - first, D);

  float top[R], total[R], sum[R][D / 8] = {};
  for (int i = 0; i < R; i++) top[i] = -INFINITE, total[i] = 0;
  // keys that some query sees
  const int seen = min(S, min(first + QUERIES, T) + offset);
  for (int start = 0; start < seen; start += KEYS) {
    __syncthreads();  // all are done with the values before
    load_tile<KEYS, D, STRIDE>(keys, k + (kv_row + start) * D, D, S - start, D);
    __syncthreads();
    float s[R][C] = {};
    add_product_transposed<D, STRIDE>(s, queries, keys);
#pragma unroll
    for (int i = 0; i < R; i++) {
      const int y = tile_y() * R + i;
      float high = top[i];
#pragma unroll
      for (int j = 0; j < C; j++) {
        const int key = start + row_column(j);
        const bool visible = may_attend(first + y, key, S, offset, mask);
        s[i][j] = visible ? s[i][j] * scale : -INFINITE;
        high = fmaxf(high, s[i][j]);
      }
      high = row_max(high);
      const float shift = high == -INFINITE ? 0 : high;  // nothing seen yet
      const float shrink = expf(top[i] - shift);
      top[i] = high;
      total[i] *= shrink;
#pragma unroll
      for (int j = 0; j < D / 8; j++) sum[i][j] *= shrink;
#pragma unroll
      for (int j = 0; j < C; j++) {
        const float p = expf(s[i][j] - shift);
        total[i] += p;
        weights[y * P_STRIDE + row_column(j)] = p;
      }
    }
    __syncthreads();  // all are done with the keys
    load_tile<KEYS, D, STRIDE>(values, v + (kv_row + start) * D, D, S - start, D);
    __syncthreads();
    add_product<KEYS, P_STRIDE, STRIDE>(sum, weights, values);
  }

#pragma unroll
  for (int i = 0; i < R; i++) {
    const int y = tile_y() * R + i;
    const float all = row_sum(total[i]);
    if (first + y >= T) continue;
#pragma unroll
    for (int j = 0; j < D / 8; j++)
      from_float(all != 0 ? sum[i][j] / all : 0, out[(row + y) * D + pair_column(j)]);
    if (tile_x() == 0) lse[row + y] = top[i] + logf(all);  // -inf: saw nothing
  }
}
