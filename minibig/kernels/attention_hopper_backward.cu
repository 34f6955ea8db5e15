// Attention, rung 5, backward: Hopper's instructions, the weights made anew.
//
//   dq    walks through the keys:     dQ = Σ_s dS K scale; first it makes Δ
//   dkv   walks through the queries:  dV = Σ_t Pᵀ dO, dK = Σ_t dSᵀ Q scale
//         where P = e^(score - lse), dP = dO Vᵀ, dS = P (dP - Δ), Δ[t] = Σ_d dO out
//
// The kernels are those of rung 4, the labour is divided as in rung 5's forward pass.
// In dq the sum of tile j - 1 runs beside the weights of tile j, as there, and q and
// dout stay in registers: from shared memory every product with them would read 64 rows
// more. In dkv two sums fill the registers: a warpgroup ends a tile before it begins the
// next one, and it is the other warpgroup that has products to run meanwhile.
//
// No GPU has run this file yet: `proof.py` holds it against rung 4 where one is to.
//
// Shapes    q, dout (B, H, T, D) and k, v (B, G, S, D), float16 or bfloat16, as tensor
//           maps with boxes of 64 columns and 128 rows (of what a block owns) or 64 (of
//           what it walks through); out, dq (B, T, H, D); dk, dv (B, S, G, D); mask
//           (B, S) or null; lse (B, H, T), numbers (B, H, 2, 128 ⌈T/128⌉), float:
//           lse as a power of two, and Δ. scale > 0; D is 32, 64, 80, 96 or 128
// Thread    of 2 of the block's own rows (`mma.cuh`: g and g + 8 of its warp's 16),
//           with a quarter of their columns; thread 256 fetches, in dkv its whole warp
// Grid      dq (tiles of 128 queries, H, B), dkv (tiles of 128 keys, G, B), those with
//           most to do first; blocks of 384. dq goes first, dkv reads its numbers
// Shared    both arrays of the own rows, three stages of both of the others: 168 kB at
//           D > 64; the registers let one block onto a multiprocessor
// Moves     at least all of them once: memory is linear in T and S. The others are read
//           once for each 128 own rows, mostly from the L2 cache
// FLOPs     14 B H T S D; causal tiles that nobody sees are not visited
// Source    arXiv 2407.08608, section 3 and appendix B.1, split in two
// Improves  on mma
#include "ptx.cuh"
#include "attention.cuh"
#include "hopper.cuh"

constexpr int OWN = 128, OTHERS = 64, STAGES = 3;  // rows of a tile

// Two arrays of the rows that a block owns, and of those that it walks through.
template <typename Number, int D>
struct Tiles {
  Number own[2][OWN * PADDED<D>], others[STAGES][2][OTHERS * PADDED<D>];
  float numbers[STAGES][2][OTHERS];
  Barrier own_full, full[STAGES], free[STAGES];
  float weighed[COMPUTING];  // nobody reads them (wgmma_wait_after)
};

template <typename Number, int D>
__device__ __forceinline__ void init_barriers(Tiles<Number, D>& tiles, int fetching) {
  if (threadIdx.x == 0) {
    barrier_init(&tiles.own_full, 1);
    for (int i = 0; i < STAGES; i++) {
      barrier_init(&tiles.full[i], fetching);
      barrier_init(&tiles.free[i], COMPUTING / 32);  // a lane of each warp
    }
    barrier_init_fence();
  }
  __syncthreads();
}

template <typename Number, int D>
__device__ __forceinline__ void fetch_own(Tiles<Number, D>& tiles, const TensorMap& a,
                                          const TensorMap& b, int row, int head) {
  barrier_arrive_expecting(&tiles.own_full, sizeof tiles.own);
  fetch<OWN, D>(tiles.own[0], a, row, head, &tiles.own_full);
  fetch<OWN, D>(tiles.own[1], b, row, head, &tiles.own_full);
}

template <typename Number, int D>
__device__ __forceinline__ void fetch_others(Tiles<Number, D>& tiles,
                                             const TensorMap& a, const TensorMap& b,
                                             int row, int head, int stage) {
  barrier_arrive_expecting(&tiles.full[stage], sizeof tiles.others[stage]);
  fetch<OTHERS, D>(tiles.others[stage][0], a, row, head, &tiles.full[stage]);
  fetch<OTHERS, D>(tiles.others[stage][1], b, row, head, &tiles.full[stage]);
}

// Begins the products of the own rows with tile j: scores and dP, or both transposed.
// The rows a and b are in shared memory or in registers. `here`: all that was waited for
// has come.
template <typename Own, typename Number, int D>
__device__ __forceinline__ void begin(Tiles<Number, D>& tiles, const Own& a,
                                      const Own& b, int j, bool& here,
                                      float (&s)[OTHERS / 8][4],
                                      float (&dp)[OTHERS / 8][4]) {
  here = here && barrier_wait(&tiles.full[j % STAGES], j / STAGES % 2);
  const Number(*others)[OTHERS * PADDED<D>] = tiles.others[j % STAGES];
  __syncwarp();  // products are begun by all lanes at once
  wgmma_fence();
  begin_product_transposed<D>(s, a, others[0]);
  begin_product_transposed<D>(dp, b, others[1]);
}

// Scores of tile j become weights; their sum, which nobody needs (wgmma_wait_after).
__device__ __forceinline__ float weigh(float (&s)[1][OTHERS / 8][4],
                                       const float (&total)[2], const bool* mask,
                                       int first, int j, int S, int offset,
                                       float scale_2) {
  hide_keys(s, first, j * OTHERS, S, offset, mask);
  float all = 0;
#pragma unroll
  for (int n = 0; n < OTHERS / 2; n++) {
    float& p = s[0][n / 4][n % 4];
    p = exp2f(p * scale_2 - total[n % 4 / 2]);
    all += p;
  }
  return all;
}

// dp becomes dS.
__device__ __forceinline__ void times(float (&dp)[1][OTHERS / 8][4],
                                      const float (&p)[1][OTHERS / 8][4],
                                      const float (&mean)[2]) {
#pragma unroll
  for (int n = 0; n < OTHERS / 2; n++)
    dp[0][n / 4][n % 4] = p[0][n / 4][n % 4] * (dp[0][n / 4][n % 4] - mean[n % 4 / 2]);
}

// Σ_d dO out of the warp's row g + 8 half, dO in registers.
template <int D, typename Number>
__device__ __forceinline__ float dot_own_row(const unsigned (&dout)[D / 16][4],
                                             const Number* out, int half) {
  float sum = 0;
#pragma unroll
  for (int n = 0; n < D / 8; n++) {  // a pair in 8 columns
    const unsigned x = dout[n / 2][half + n % 2 * 2];
    const unsigned y = *(const unsigned*)(out + 8 * n + lane_column());
    const Number left[2] = {{(unsigned short)x}, {(unsigned short)(x >> 16)}};
    const Number right[2] = {{(unsigned short)y}, {(unsigned short)(y >> 16)}};
    sum += to_float(left[0]) * to_float(right[0]);
    sum += to_float(left[1]) * to_float(right[1]);
  }
  return row_sum(sum);
}

// What each of the first 256 threads does in dq: 2^(scale_2 s - total) are its weights.
// out, dq, lse and numbers begin with the warp's first row, `rows` are left.
template <typename Number, int D>
__device__ __forceinline__ void compute_dq(Tiles<Number, D>& tiles, const bool* mask,
                                           const Number* out, const float* lse,
                                           float* numbers, Number* dq, int step,
                                           int padded, int first, int count, int rows,
                                           int S, int offset, float scale) {
  float sum[1][PADDED<D> / 8][4] = {}, s[1][OTHERS / 8][4], dp[1][OTHERS / 8][4];
  unsigned q[D / 16][4], dout[D / 16][4], ds[1][OTHERS / 16][4];
  float total[2], mean[2] = {};  // no keys: no tiles come, and no mean is wanted
  bool here = true;
  if (count > 0) {
    here = barrier_wait(&tiles.own_full, 0);
    load_own_rows<D>(q, tiles.own[0]);
    load_own_rows<D>(dout, tiles.own[1]);
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = 8 * half + lane_row(), last = min(row, rows - 1);
    if (count > 0)
      mean[half] = dot_own_row<D>(dout, out + (long long)last * step, half);
    total[half] = lse_2(lse[last]);
    if (lane_column() > 0) continue;
    numbers[row] = row < rows ? total[half] : INFINITE;
    numbers[padded + row] = row < rows ? mean[half] : 0;
  }
  if (count > 0) {
    begin(tiles, q, dout, 0, here, s[0], dp[0]);
    wgmma_wait<0>();
    weigh(s, total, mask, first, 0, S, offset, scale * LOG2_E);
    times(dp, s, mean);
    round_to_operand<Number>(dp, ds);
  }
#pragma unroll 1
  for (int j = 1; j < count; j++) {  // dS of tile j, the sum of tile j - 1
    const int last = (j - 1) % STAGES;
    begin(tiles, q, dout, j, here, s[0], dp[0]);
    begin_product<D>(sum[0], ds[0], tiles.others[last][0]);
    wgmma_wait<2>();  // for the scores
    const float all = weigh(s, total, mask, first, j, S, offset, scale * LOG2_E);
    wgmma_wait_after<1>(all, tiles.weighed);  // for dP
    times(dp, s, mean);
    wgmma_wait_after<0>(dp[0][OTHERS / 8 - 1][3], tiles.weighed);
    hand_back(&tiles.free[last]);
    round_to_operand<Number>(dp, ds);
  }
  if (count > 0) {
    wgmma_fence();
    begin_product<D>(sum[0], ds[0], tiles.others[(count - 1) % STAGES][0]);
    wgmma_wait<0>();
  }
  const float factor = here ? scale : NOT_A_NUMBER;  // a tile never came
  store_own_rows<D>(sum[0], {factor, factor}, dq, rows, step);
}

template <typename Number, int D>
__global__ void __launch_bounds__(384, 1) attention_hopper_dq(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
    const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap dout,
    const bool* mask, const Number* out, const float* lse, float* numbers, Number* dq,
    int heads, int kv_heads, int T, int S, int offset, float scale) {
  DYNAMIC_SHARED(char, memory);
  Tiles<Number, D>& tiles = at_block<Tiles<Number, D>>(memory);
  const int first = (gridDim.x - 1 - blockIdx.x) * OWN;
  const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long of_all = (long long)blockIdx.z * heads + head;  // sequences' heads
  const int seen = min(S, min(first + OWN, T) + offset);  // keys that a query sees
  const int count = seen > 0 ? (seen + OTHERS - 1) / OTHERS : 0;
  init_barriers(tiles, 1);
  if (threadIdx.x < COMPUTING) {
    set_registers_up<240>();
    const int own = first + warp_in_block() * 16;  // the warp's first row
    const int padded = gridDim.x * OWN;
    const long long row = ((long long)blockIdx.z * T + own) * heads + head;
    compute_dq(tiles, mask_of(mask, blockIdx.z, S), out + row * D,
               lse + of_all * T + own, numbers + of_all * 2 * padded + own, dq + row * D,
               heads * D, padded, own, count, T - own, S, offset, scale);
  } else {
    set_registers_down<24>();
    if (threadIdx.x > COMPUTING || count == 0) return;
    fetch_own(tiles, q, dout, first, head);
    for (int j = 0; j < count; j++) {
      const int stage = j % STAGES;
      if (!barrier_wait(&tiles.free[stage], j / STAGES % 2 ^ 1)) return;
      fetch_others(tiles, k, v, j * OTHERS, kv_head, stage);
    }
  }
}

// The same of transposed scores, whose queries begin with `start`.
__device__ __forceinline__ void weigh_transposed(float (&s)[1][OTHERS / 8][4],
                                                 const float (&total)[OTHERS],
                                                 int first, int start, int offset,
                                                 float scale_2) {
  hide_queries(s, first, start, offset);
#pragma unroll
  for (int n = 0; n < OTHERS / 2; n++) {
    float& p = s[0][n / 4][n % 4];
    p = exp2f(p * scale_2 - total[n / 4 * 8 + lane_column() + n % 2]);
  }
}

__device__ __forceinline__ void times_transposed(float (&dp)[1][OTHERS / 8][4],
                                                 const float (&p)[1][OTHERS / 8][4],
                                                 const float (&mean)[OTHERS]) {
#pragma unroll
  for (int n = 0; n < OTHERS / 2; n++) {
    const float of_query = mean[n / 4 * 8 + lane_column() + n % 2];
    dp[0][n / 4][n % 4] = p[0][n / 4][n % 4] * (dp[0][n / 4][n % 4] - of_query);
  }
}

// What each of the first 256 threads does in dkv.
template <typename Number, int D>
__device__ __forceinline__ void compute_dkv(Tiles<Number, D>& tiles, const bool* mask,
                                            Number* dk, Number* dv, int step,
                                            int first, int begin_t, int end_t,
                                            int count, int S, int offset, float scale) {
  float dk_sum[1][PADDED<D> / 8][4] = {}, dv_sum[1][PADDED<D> / 8][4] = {};
  const Number* k = tiles.own[0] + own_group() * 64 * BLOCK;
  const Number* v = k + OWN * PADDED<D>;
  bool here = count == 0 || barrier_wait(&tiles.own_full, 0);
  int start = begin_t;
#pragma unroll 1
  for (int j = 0; j < count; j++) {
    const int stage = j % STAGES;
    float s[1][OTHERS / 8][4], dp[1][OTHERS / 8][4];
    unsigned p[1][OTHERS / 16][4], ds[1][OTHERS / 16][4];
    begin(tiles, k, v, j, here, s[0], dp[0]);
    wgmma_wait<1>();  // for the scores
    weigh_transposed(s, tiles.numbers[stage][0], first, start, offset, scale * LOG2_E);
    round_to_operand<Number>(s, p);
    wgmma_fence();
    begin_product<D>(dv_sum[0], p[0], tiles.others[stage][1]);
    wgmma_wait<1>();  // for dP
    times_transposed(dp, s, tiles.numbers[stage][1]);
    round_to_operand<Number>(dp, ds);
    wgmma_fence();
    begin_product<D>(dk_sum[0], ds[0], tiles.others[stage][0]);
    wgmma_wait<0>();
    hand_back(&tiles.free[stage]);
    start = start + OTHERS < end_t ? start + OTHERS : begin_t;  // of the next head
  }
  float visible[2], factor[2];  // zeros for a key that the mask hides
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int key = first + 8 * half + lane_row();
    visible[half] = mask == nullptr || (key < S && mask[key]);
    if (!here) visible[half] = NOT_A_NUMBER;  // a tile never came
    factor[half] = visible[half] * scale;
  }
  store_own_rows<D>(dk_sum[0], factor, dk, S - first, step);
  store_own_rows<D>(dv_sum[0], visible, dv, S - first, step);
}

template <typename Number, int D>
__global__ void __launch_bounds__(384, 1) attention_hopper_dkv(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
    const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap dout,
    const bool* mask, const float* numbers, Number* dk, Number* dv, int heads,
    int kv_heads, int T, int S, int offset, float scale) {
  DYNAMIC_SHARED(char, memory);
  Tiles<Number, D>& tiles = at_block<Tiles<Number, D>>(memory);
  const int first = blockIdx.x * OWN, group = heads / kv_heads;
  const int kv_head = blockIdx.y;
  // Tiles of queries that see a key, `walk` of one head of the group after the other
  const int begin = max(0, (first - offset) / OTHERS * OTHERS);
  const int walk = begin < T ? (T - begin + OTHERS - 1) / OTHERS : 0;
  const int count = walk * group;
  init_barriers(tiles, 32);
  if (threadIdx.x < COMPUTING) {
    set_registers_up<240>();
    const int own = first + warp_in_block() * 16;  // the warp's first row
    const long long row = ((long long)blockIdx.z * S + own) * kv_heads + kv_head;
    compute_dkv(tiles, mask_of(mask, blockIdx.z, S), dk + row * D, dv + row * D,
                kv_heads * D, own, begin, T, count, S, offset, scale);
  } else {
    set_registers_down<24>();
    const int lane = threadIdx.x - COMPUTING, padded = (T + OWN - 1) / OWN * OWN;
    if (lane >= 32 || count == 0) return;
    if (lane == 0) fetch_own(tiles, k, v, first, kv_head);
    for (int j = 0; j < count; j++) {
      const int stage = j % STAGES, start = begin + j % walk * OTHERS;
      const int head = kv_head * group + j / walk;
      if (!barrier_wait(&tiles.free[stage], j / STAGES % 2 ^ 1)) return;
      const long long of_all = (long long)blockIdx.z * heads + head;
      const float* from = numbers + of_all * 2 * padded + start;
      for (int i = lane; i < OTHERS; i += 32) {
        tiles.numbers[stage][0][i] = from[i];
        tiles.numbers[stage][1][i] = from[padded + i];
      }
      if (lane == 0)
        fetch_others(tiles, q, dout, start, head, stage);
      else
        barrier_arrive(&tiles.full[stage]);
    }
  }
}
