// Attention, rung 3, backward: flash attention in float32, the weights computed anew.
//
//   delta   Δ[t] = Σ_d dO[t][d] out[t][d], which equals softmax's Σ_s P dP
//   dq      walks through the keys:     dQ = Σ_s dS K scale
//   dkv     walks through the queries:  dV = Σ_t Pᵀ dO, dK = Σ_t dSᵀ Q scale
//           where P = e^(score - lse), dP = dO Vᵀ, dS = P (dP - Δ)
//
// dq and dkv each compute P and dP: seven products where five would do in one kernel.
// In return no two blocks write to one place: no atomics, and every run gives the same
// bits.
//
// Shapes    q, out, dout, dq (B, H, T, D); k, v, dk, dv (B, G, S, D); mask (B, S) or
//           null; lse, delta (B, H, T), float. Numbers are float, float16 or bfloat16
// Thread    OWN/16 × OTHER/8 weights, OWN/16 × D/8 numbers of each result: a block of
//           dq owns 32 or 64 queries, one of dkv as many keys, and walks through 16 or
//           32 of the others at a time (`Backward`, below). In delta a warp takes a row
// Grid      (tiles, H, B), in dkv (tiles, G, B), in delta (B H T / 4); blocks of 128
// Shared    both arrays of the own rows, both of the others, one tile of weights
// Moves     at least q, k, v, out, dout, lse and the results once, delta twice: memory
//           is linear in T and S
// FLOPs     14 B H T S D; causal tiles that nobody sees are not visited
// Source    arXiv 2205.14135, appendix B; 2307.08691, algorithm 2, split in two
// Improves  on tiled
#include "ptx.cuh"
#include "attention.cuh"
#include "tile.cuh"

template <int D>
struct Backward {  // as large as 64 kB of shared memory allow: all that sm_75 has
  static constexpr int OWN = D <= 64 ? 64 : 32, OTHER = D <= 96 ? 32 : 16;
  static constexpr int R = OWN / 16, C = OTHER / 8;
  static constexpr int STRIDE = D + 4, P_STRIDE = OTHER + 4;
};

template <typename Number, int D>
__global__ void attention_flash_delta(const Number* out, const Number* dout,
                                      float* delta, long long rows) {
  const int lane = threadIdx.x % 32;
  const long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;  // the whole warp
  float sum = 0;
  for (int d = lane; d < D; d += 32)
    sum += to_float(out[row * D + d]) * to_float(dout[row * D + d]);
  for (int step = 16; step > 0; step /= 2)
    sum += __shfl_xor_sync(0xffffffff, sum, step);
  if (lane == 0) delta[row] = sum;
}

template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) attention_flash_dq(
    const Number* q, const Number* k, const Number* v, const bool* mask,
    const Number* dout, const float* lse, const float* delta, Number* dq, int heads,
    int kv_heads, int T, int S, int offset, float scale) {
  using Tile = Backward<D>;
  constexpr int OWN = Tile::OWN, OTHER = Tile::OTHER, R = Tile::R, C = Tile::C;
  constexpr int STRIDE = Tile::STRIDE, P_STRIDE = Tile::P_STRIDE;
  DYNAMIC_SHARED(float, memory);
  float* queries = memory;                  // (OWN, STRIDE)
  float* douts = queries + OWN * STRIDE;    // (OWN, STRIDE)
  float* keys = douts + OWN * STRIDE;       // (OTHER, STRIDE)
  float* values = keys + OTHER * STRIDE;    // (OTHER, STRIDE)
  float* dscores = values + OTHER * STRIDE; // (OWN, P_STRIDE)

  const int first = (gridDim.x - 1 - blockIdx.x) * OWN;
  const int batch = blockIdx.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long row = ((long long)batch * heads + head) * T + first;
  const long long kv_row = ((long long)batch * kv_heads + kv_head) * S;
  mask = mask_of(mask, batch, S);
  load_tile<OWN, D, STRIDE>(queries, q + row * D, D, T - first, D);
  load_tile<OWN, D, STRIDE>(douts, dout + row * D, D, T - first, D);

  float sum[R][D / 8] = {};
  // keys that some query sees
  const int seen = min(S, min(first + OWN, T) + offset);
  for (int start = 0; start < seen; start += OTHER) {
    __syncthreads();  // all are done with the tiles before
    load_tile<OTHER, D, STRIDE>(keys, k + (kv_row + start) * D, D, S - start, D);
    load_tile<OTHER, D, STRIDE>(values, v + (kv_row + start) * D, D, S - start, D);
    __syncthreads();
    float s[R][C] = {}, dp[R][C] = {};
    add_product_transposed<D, STRIDE>(s, queries, keys);
    add_product_transposed<D, STRIDE>(dp, douts, values);
#pragma unroll
    for (int i = 0; i < R; i++) {
      const int y = tile_y() * R + i, t = first + y;
      const float total = t < T ? lse[row + y] : 0, mean = t < T ? delta[row + y] : 0;
#pragma unroll
      for (int j = 0; j < C; j++) {
        const bool visible = may_attend(t, start + row_column(j), S, offset, mask);
        const float p = visible ? expf(s[i][j] * scale - total) : 0;
        dscores[y * P_STRIDE + row_column(j)] = p * (dp[i][j] - mean);
      }
    }
    __syncwarp();  // a row's numbers come from the warp that reads them
    add_product<OTHER, P_STRIDE, STRIDE>(sum, dscores, keys);
  }

#pragma unroll
  for (int i = 0; i < R; i++) {
    const int y = tile_y() * R + i;
    if (first + y >= T) continue;
#pragma unroll
    for (int j = 0; j < D / 8; j++)
      from_float(sum[i][j] * scale, dq[(row + y) * D + pair_column(j)]);
  }
}

template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) attention_flash_dkv(
    const Number* q, const Number* k, const Number* v, const bool* mask,
    const Number* dout, const float* lse, const float* delta, Number* dk, Number* dv,
    int heads, int kv_heads, int T, int S, int offset, float scale) {
  using Tile = Backward<D>;
  constexpr int OWN = Tile::OWN, OTHER = Tile::OTHER, R = Tile::R, C = Tile::C;
  constexpr int STRIDE = Tile::STRIDE, P_STRIDE = Tile::P_STRIDE;
  DYNAMIC_SHARED(float, memory);
  float* keys = memory;                      // (OWN, STRIDE)
  float* values = keys + OWN * STRIDE;       // (OWN, STRIDE)
  float* queries = values + OWN * STRIDE;    // (OTHER, STRIDE)
  float* douts = queries + OTHER * STRIDE;   // (OTHER, STRIDE)
  float* weights = douts + OTHER * STRIDE;   // (OWN, P_STRIDE), Pᵀ and then dSᵀ

  const int first = blockIdx.x * OWN, batch = blockIdx.z, group = heads / kv_heads;
  const long long kv_head = (long long)batch * kv_heads + blockIdx.y;
  const long long kv_row = kv_head * S + first;
  mask = mask_of(mask, batch, S);
  load_tile<OWN, D, STRIDE>(keys, k + kv_row * D, D, S - first, D);
  load_tile<OWN, D, STRIDE>(values, v + kv_row * D, D, S - first, D);

  float dk_sum[R][D / 8] = {}, dv_sum[R][D / 8] = {};
  const int begin = max(0, (first - offset) / OTHER * OTHER);  // queries that see a key
  for (long long head = kv_head * group; head < (kv_head + 1) * group; head++) {
    for (int start = begin; start < T; start += OTHER) {
      const long long row = head * T + start;
      __syncthreads();  // all are done with the tiles before
      load_tile<OTHER, D, STRIDE>(queries, q + row * D, D, T - start, D);
      load_tile<OTHER, D, STRIDE>(douts, dout + row * D, D, T - start, D);
      __syncthreads();
      float s[R][C] = {}, dp[R][C] = {};
      add_product_transposed<D, STRIDE>(s, keys, queries);
      add_product_transposed<D, STRIDE>(dp, values, douts);
#pragma unroll
      for (int j = 0; j < C; j++) {
        const int x = row_column(j), t = start + x;
        const float total = t < T ? lse[row + x] : 0, mean = t < T ? delta[row + x] : 0;
#pragma unroll
        for (int i = 0; i < R; i++) {
          const int y = tile_y() * R + i;
          const bool visible = t < T && may_attend(t, first + y, S, offset, mask);
          const float p = visible ? expf(s[i][j] * scale - total) : 0;
          weights[y * P_STRIDE + x] = p;
          dp[i][j] = p * (dp[i][j] - mean);
        }
      }
      __syncwarp();  // a row's numbers come from the warp that reads them
      add_product<OTHER, P_STRIDE, STRIDE>(dv_sum, weights, douts);
      __syncwarp();
#pragma unroll
      for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < C; j++)
          weights[(tile_y() * R + i) * P_STRIDE + row_column(j)] = dp[i][j];
      __syncwarp();
      add_product<OTHER, P_STRIDE, STRIDE>(dk_sum, weights, queries);
    }
  }

#pragma unroll
  for (int i = 0; i < R; i++) {
    const int y = tile_y() * R + i;
    if (first + y >= S) continue;
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      from_float(dk_sum[i][j] * scale, dk[(kv_row + y) * D + pair_column(j)]);
      from_float(dv_sum[i][j], dv[(kv_row + y) * D + pair_column(j)]);
    }
  }
}
