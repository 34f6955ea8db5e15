// Attention, rung 4, backward: flash attention on tensor cores, the weights made anew.
//
//   dq    walks through the keys:     dQ = Σ_s dS K scale; first it makes Δ
//   dkv   walks through the queries:  dV = Σ_t Pᵀ dO, dK = Σ_t dSᵀ Q scale
//         where P = e^(score - lse), dP = dO Vᵀ, dS = P (dP - Δ), Δ[t] = Σ_d dO out
//
// dkv makes the scores transposed, Sᵀ = K Qᵀ and dPᵀ = V dOᵀ. So Pᵀ and dSᵀ come out of
// one product just as the next one wants them (`mma.cuh`), as P and dS do in dq:
// nothing but whole tiles ever passes through shared memory. Two stages of it: while
// one tile is at work, the next one arrives.
//
// That takes seven products where one kernel for all could do with five. But that
// kernel must bring dS through shared memory, with two more barriers a tile, and must
// add its part of dQ to a float32 array by atomics, 4 D bytes a query for every tile of
// keys: as they come in another order each time, every run gives other bits. Here no
// two blocks write to one place.
//
// Shapes    q, out, dout, dq (B, H, T, D); k, v, dk, dv (B, G, S, D), all float16 or
//           all bfloat16, from addresses that divide by 16; mask (B, S) or null; lse,
//           delta (B, H, T), float. scale > 0; D divides by 16
// Thread    4 rows of the own queries (dq), 2 or 4 of the own keys (dkv): those that
//           its warp's fragments give it, with a quarter of their columns
// Grid      dq (tiles of 128 queries, H, B), dkv (tiles of 128 or 64 keys, G, B), those
//           with most to do first; blocks of 128. dq goes first, dkv reads its delta
// Shared    both arrays of the own rows, two stages of both of the others: 97 kB at D =
//           128, so that two blocks fit into an H100, one into any chip from sm_80 on
// Moves     at least q, k, v, out, dout, lse, delta and the results once: memory is
//           linear in T and S. k and v are read T/128 times, q and dout S/64 or S/128
//           times, mostly from the L2 cache
// FLOPs     14 B H T S D; causal tiles that nobody sees are not visited
// Source    arXiv 2307.08691, algorithm 2, split in two
// Improves  on flash
#include "ptx.cuh"
#include "attention.cuh"
#include "mma.cuh"

// What a thread fetches of a tile's numbers: lse first, then delta.
template <int QUERIES>
__device__ __forceinline__ float lse_or_delta(const float* lse, const float* delta,
                                              int start, int T) {
  const int t = start + threadIdx.x % QUERIES;
  if (threadIdx.x >= QUERIES) return t < T ? delta[t] : 0;
  return t < T ? lse_2(lse[t]) : INFINITE;
}

template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) attention_mma_dq(
    const Number* q, const Number* k, const Number* v, const bool* mask,
    const Number* out, const Number* dout, const float* lse, float* delta, Number* dq,
    int heads, int kv_heads, int T, int S, int offset, float scale) {
  constexpr int OWN = 128, KEYS = D <= 64 ? 64 : 32, M = OWN / 64, N = KEYS / 8;
  DYNAMIC_SHARED(Number, memory);
  Number* queries = memory;              // (OWN, D)
  Number* douts = queries + OWN * D;     // (OWN, D)
  Number* stages = douts + OWN * D;      // two of keys and values, (KEYS, D) each

  const int first = (gridDim.x - 1 - blockIdx.x) * OWN;
  const int own = warp_in_block() * 16 * M;  // the warp's first row of the tile
  const int batch = blockIdx.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long row = ((long long)batch * heads + head) * T + first;
  const long long kv_row = ((long long)batch * kv_heads + kv_head) * S;
  const Number *k_rows = k + kv_row * D, *v_rows = v + kv_row * D;  // the next tile's
  mask = mask_of(mask, batch, S);

  const int seen = min(S, first + OWN + offset);  // keys that some query sees
  copy_tile<OWN, D>(queries, q + row * D, T - first);
  copy_tile<OWN, D>(douts, dout + row * D, T - first);
  copy_tile<KEYS, D>(stages, k_rows, S);
  copy_tile<KEYS, D>(stages + KEYS * D, v_rows, S);
  copy_async_commit();
  float total[M][2], mean[M][2], sum[M][D / 8][4] = {};  // lse_2 and Δ
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int y = own + 16 * i + 8 * half + lane_row();
      const long long t = first + y < T ? row + y : row;  // some row for the others
      mean[i][half] = row_dot<D>(out + t * D, dout + t * D);
      total[i][half] = lse_2(lse[t]);
      if (first + y < T && lane_column() == 0) delta[t] = mean[i][half];
    }

  int stage = 0;
  for (int start = 0; start < seen; start += KEYS) {
    const Number* keys = stages + stage * 2 * KEYS * D;
    const Number* values = keys + KEYS * D;
    stage ^= 1;
    k_rows += KEYS * D, v_rows += KEYS * D;
    copy_async_wait<0>();
    __syncthreads();  // this stage is here, and all are done with the other one
    if (start + KEYS < seen) {
      Number* next = stages + stage * 2 * KEYS * D;
      copy_tile<KEYS, D>(next, k_rows, S - start - KEYS);
      copy_tile<KEYS, D>(next + KEYS * D, v_rows, S - start - KEYS);
    }
    copy_async_commit();
    float s[M][N][4] = {}, dp[M][N][4];
    add_product_transposed<D>(s, queries + own * D, keys);
    hide_keys(s, first + own, start, S, offset, mask);
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int n = 0; n < N * 4; n++) dp[i][n / 4][n % 4] = -mean[i][n % 4 / 2];
    add_product_transposed<D>(dp, douts + own * D, values);
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int n = 0; n < N * 4; n++) {
        float& p = s[i][n / 4][n % 4];
        p = exp2f(p * (scale * LOG2_E) - total[i][n % 4 / 2]) * dp[i][n / 4][n % 4];
      }
    unsigned ds[M][N / 2][4];
    round_to_operand<Number>(s, ds);
    add_product<D>(sum, ds, keys);
  }

  float factor[M][2];
#pragma unroll
  for (int i = 0; i < M; i++) factor[i][0] = factor[i][1] = scale;
  copy_async_wait<0>();
  __syncthreads();  // where nothing was seen the queries may still be on their way
  store_rows<D>(sum, factor, queries + own * D, dq + (row + own) * D, T - first - own);
}

template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) attention_mma_dkv(
    const Number* q, const Number* k, const Number* v, const bool* mask,
    const Number* dout, const float* lse, const float* delta, Number* dk, Number* dv,
    int heads, int kv_heads, int T, int S, int offset, float scale) {
  constexpr int OWN = D <= 64 ? 128 : 64, QUERIES = D <= 64 ? 32 : 64;
  constexpr int M = OWN / 64, N = QUERIES / 8;
  DYNAMIC_SHARED(Number, memory);
  Number* keys = memory;                              // (OWN, D)
  Number* values = keys + OWN * D;                    // (OWN, D)
  Number* stages = values + OWN * D;  // two of queries and douts, (QUERIES, D) each
  float* numbers = (float*)(stages + 4 * QUERIES * D);  // two of lse and delta

  const int first = blockIdx.x * OWN, batch = blockIdx.z, group = heads / kv_heads;
  const int own = warp_in_block() * 16 * M;  // the warp's first row of the tile
  const long long kv_head = (long long)batch * kv_heads + blockIdx.y;
  const long long kv_row = kv_head * S + first;
  mask = mask_of(mask, batch, S);
  // Tiles of queries, of one head of the group after the other
  const int begin = max(0, (first - offset) / QUERIES * QUERIES);  // that see a key
  int tiles = begin < T ? (T - begin + QUERIES - 1) / QUERIES * group : 0, stage = 0;
  int next = begin;  // where the tile begins that is on its way
  long long row = kv_head * group * T;  // where its head begins
  copy_tile<OWN, D>(keys, k + kv_row * D, S - first);
  copy_tile<OWN, D>(values, v + kv_row * D, S - first);
  if (tiles > 0) {
    copy_tile<QUERIES, D>(stages, q + (row + next) * D, T - next);
    copy_tile<QUERIES, D>(stages + QUERIES * D, dout + (row + next) * D, T - next);
    if (threadIdx.x < 2 * QUERIES)
      numbers[threadIdx.x] = lse_or_delta<QUERIES>(lse + row, delta + row, next, T);
  }
  copy_async_commit();
  float dk_sum[M][D / 8][4] = {}, dv_sum[M][D / 8][4] = {};
  for (; tiles > 0; tiles--) {
    const Number* queries = stages + stage * 2 * QUERIES * D;
    const Number* douts = queries + QUERIES * D;
    const float* totals = numbers + stage * 2 * QUERIES;
    const float* means = totals + QUERIES;
    stage ^= 1;
    const int start = next;
    next += QUERIES;
    if (next >= T) next = begin, row += T;
    copy_async_wait<0>();
    __syncthreads();  // this stage is here, and all are done with the other one
    float number = 0;
    if (tiles > 1) {
      Number* other = stages + stage * 2 * QUERIES * D;
      copy_tile<QUERIES, D>(other, q + (row + next) * D, T - next);
      copy_tile<QUERIES, D>(other + QUERIES * D, dout + (row + next) * D, T - next);
      if (threadIdx.x < 2 * QUERIES)
        number = lse_or_delta<QUERIES>(lse + row, delta + row, next, T);
    }
    copy_async_commit();

    float s[M][N][4] = {}, dp[M][N][4];
    unsigned operand[M][N / 2][4];
    add_product_transposed<D>(s, keys + own * D, queries);
    hide_queries(s, first + own, start, offset);
#pragma unroll
    for (int n = 0; n < N * 2; n++) {
      const float total = totals[n / 2 * 8 + lane_column() + n % 2];
#pragma unroll
      for (int i = 0; i < M * 2; i++) {
        float& p = s[i / 2][n / 2][i % 2 * 2 + n % 2];
        p = exp2f(p * (scale * LOG2_E) - total);
      }
    }
    round_to_operand<Number>(s, operand);
    add_product<D>(dv_sum, operand, douts);
#pragma unroll
    for (int n = 0; n < N * 2; n++) {
      const float mean = means[n / 2 * 8 + lane_column() + n % 2];
#pragma unroll
      for (int i = 0; i < M * 2; i++) dp[i / 2][n / 2][i % 2 * 2 + n % 2] = -mean;
    }
    add_product_transposed<D>(dp, values + own * D, douts);
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int n = 0; n < N * 4; n++) s[i][n / 4][n % 4] *= dp[i][n / 4][n % 4];
    round_to_operand<Number>(s, operand);
    add_product<D>(dk_sum, operand, queries);
    if (threadIdx.x < 2 * QUERIES)
      numbers[stage * 2 * QUERIES + threadIdx.x] = number;
  }

  float visible[M][2], factor[M][2];  // zeros for a key that the mask hides
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int key = first + own + 16 * i + 8 * half + lane_row();
      visible[i][half] = mask == nullptr || (key < S && mask[key]);
      factor[i][half] = visible[i][half] * scale;
    }
  copy_async_wait<0>();
  __syncthreads();  // where nobody saw a key the keys may still be on their way
  const int left = S - first - own;
  store_rows<D>(dk_sum, factor, keys + own * D, dk + (kv_row + own) * D, left);
  store_rows<D>(dv_sum, visible, values + own * D, dv + (kv_row + own) * D, left);
}
