// Attention, rung 5: flash attention with Hopper's own instructions. 16 bits in.
//
// The numbers are those of rung 4; the division of labour is new. Two warpgroups of
// 128 threads compute, each for 64 queries: their products read shared memory by
// themselves and run while the threads do something else (`wgmma.cuh`). The third one
// fetches: one of its threads asks the copy engine for whole tiles (`tma.cuh`), and its
// registers go to the others. Barriers, full and free, pass each tile to and fro, in
// two stages: no thread copies, and nobody waits for the whole block. A warpgroup
// begins the scores of tile j and, right behind them, the weighted sum of tile j - 1,
// which runs beside the softmax of tile j.
//
// No GPU has run this file yet: `proof.py` holds it against rung 4 where one is to.
//
// Shapes    q (B, H, T, D); k, v (B, G, S, D), float16 or bfloat16, as tensor maps with
//           boxes of 128 rows and 64 columns; mask (B, S) or null; out (B, T, H, D); lse
//           (B, H, T), float. scale > 0; D is 32, 64, 80, 96 or 128
// Thread    of 2 queries (`mma.cuh`: rows g and g + 8 of its warp's 16), with a quarter
//           of their scores and of their results; thread 256 fetches
// Grid      (tiles of 128 queries, H, B), those with most keys first; blocks of 384
// Shared    128 queries, twice 128 keys and 128 values: 168 kB at D > 64, else 86 kB;
//           the registers let one block onto a multiprocessor
// Moves     at least q, k, v, out and lse once: memory is linear in T and S. k and v
//           are read T/128 times, mostly from the L2 cache. Out of shared memory come,
//           for each tile, its queries once, its keys and values once a warpgroup
// FLOPs     4 B H T S D; causal tiles that no query of a block sees are not visited
// Source    arXiv 2407.08608, sections 3.1 and 3.2. Not here: its order of the two
//           warpgroups (ping-pong), and results that leave by the copy engine
// Improves  on mma
#include "ptx.cuh"
#include "attention.cuh"
#include "hopper.cuh"

constexpr int QUERIES = 128, KEYS = 128, STAGES = 2;

template <typename Number, int D>
struct Tiles {  // in blocks of 64 columns
  Number queries[QUERIES * PADDED<D>], keys[STAGES][KEYS * PADDED<D>],
      values[STAGES][KEYS * PADDED<D>];
  Barrier queries_full, keys_full[STAGES], keys_free[STAGES], values_full[STAGES],
      values_free[STAGES];
  float weighed[COMPUTING];  // nobody reads them (wgmma_wait_after)
};

template <typename Number, int D>
__device__ __forceinline__ void init_barriers(Tiles<Number, D>& tiles) {
  if (threadIdx.x == 0) {
    barrier_init(&tiles.queries_full, 1);
    for (int i = 0; i < STAGES; i++) {
      barrier_init(&tiles.keys_full[i], 1);
      barrier_init(&tiles.values_full[i], 1);
      barrier_init(&tiles.keys_free[i], COMPUTING / 32);  // a lane of each warp
      barrier_init(&tiles.values_free[i], COMPUTING / 32);
    }
    barrier_init_fence();
  }
  __syncthreads();
}

// What thread 256 does.
template <typename Number, int D>
__device__ __forceinline__ void fetch_all(Tiles<Number, D>& tiles, const TensorMap& q,
                                          const TensorMap& k, const TensorMap& v,
                                          int first, int head, int kv_head, int count) {
  barrier_arrive_expecting(&tiles.queries_full, sizeof tiles.queries);
  fetch<QUERIES, D>(tiles.queries, q, first, head, &tiles.queries_full);
  for (int i = 0; i < count; i++) {
    const int stage = i % STAGES, before = i / STAGES % 2 ^ 1;  // the phase before
    if (!barrier_wait(&tiles.keys_free[stage], before)) return;
    barrier_arrive_expecting(&tiles.keys_full[stage], sizeof tiles.keys[stage]);
    fetch<KEYS, D>(tiles.keys[stage], k, i * KEYS, kv_head, &tiles.keys_full[stage]);
    if (!barrier_wait(&tiles.values_free[stage], before)) return;
    barrier_arrive_expecting(&tiles.values_full[stage], sizeof tiles.values[stage]);
    fetch<KEYS, D>(tiles.values[stage], v, i * KEYS, kv_head,
                   &tiles.values_full[stage]);
  }
}

// Scores become weights, 2^(scale_2 s - shift); `shrink`: what those before became.
template <int N>
__device__ __forceinline__ void weigh(float (&s)[N][4], float (&top)[2],
                                      float (&total)[2], float (&shrink)[2],
                                      float scale_2) {
#pragma unroll
  for (int half = 0; half < 2; half++) {  // rows g and g + 8
    float high = top[half];
#pragma unroll
    for (int n = 0; n < N * 2; n++) high = fmaxf(high, s[n / 2][2 * half + n % 2]);
    high = row_max(high);
    const float shift = high == -INFINITE ? 0 : high * scale_2;  // nothing seen yet
    shrink[half] = exp2f(top[half] * scale_2 - shift);
    top[half] = high;
    total[half] *= shrink[half];
#pragma unroll
    for (int n = 0; n < N * 2; n++) {
      float& p = s[n / 2][2 * half + n % 2];
      p = exp2f(p * scale_2 - shift);
      total[half] += p;
    }
  }
}

// What each of the first 256 threads does; rows are counted from q's first one on.
template <typename Number, int D>
__device__ __forceinline__ void compute(Tiles<Number, D>& tiles, const bool* mask,
                                        Number* out, float* lse, int step, int first,
                                        int count, int T, int S, int offset,
                                        float scale) {
  const int own = warp_in_block() * 16;  // the warp's first row of the tile
  const Number* queries = tiles.queries + own_group() * 64 * BLOCK;
  const float scale_2 = scale * LOG2_E;
  float top[2] = {-INFINITE, -INFINITE}, total[2] = {}, shrink[2];
  float sum[1][PADDED<D> / 8][4] = {}, s[1][KEYS / 8][4];
  unsigned p[1][KEYS / 16][4];
  bool here = true;  // all that was waited for has come
  if (count > 0) {
    here = here && barrier_wait(&tiles.queries_full, 0);
    here = here && barrier_wait(&tiles.keys_full[0], 0);
    __syncwarp();  // products are begun by all lanes at once
    wgmma_fence();
    begin_product_transposed<D>(s[0], queries, tiles.keys[0]);
    wgmma_wait<0>();
    hand_back(&tiles.keys_free[0]);
    hide_keys(s, first + own, 0, S, offset, mask);
    weigh(s[0], top, total, shrink, scale_2);
    round_to_operand<Number>(s, p);
  }
  for (int j = 1; j < count; j++) {  // weighs tile j, adds up tile j - 1
    const int stage = j % STAGES, last = (j - 1) % STAGES;
    here = here && barrier_wait(&tiles.keys_full[stage], j / STAGES % 2);
    here = here && barrier_wait(&tiles.values_full[last], (j - 1) / STAGES % 2);
    __syncwarp();
    wgmma_fence();
    begin_product_transposed<D>(s[0], queries, tiles.keys[stage]);
    begin_product<D>(sum[0], p[0], tiles.values[last]);
    wgmma_wait<1>();  // for the scores; the sum is still at work
    hand_back(&tiles.keys_free[stage]);
    hide_keys(s, first + own, j * KEYS, S, offset, mask);
    weigh(s[0], top, total, shrink, scale_2);
    wgmma_wait_after<0>(total[0] + total[1], tiles.weighed);
    hand_back(&tiles.values_free[last]);
#pragma unroll
    for (int n = 0; n < PADDED<D> / 2; n++)
      sum[0][n / 4][n % 4] *= shrink[n % 4 / 2];
    round_to_operand<Number>(s, p);
  }
  if (count > 0) {
    const int last = (count - 1) % STAGES;
    here = here && barrier_wait(&tiles.values_full[last], (count - 1) / STAGES % 2);
    __syncwarp();
    wgmma_fence();
    begin_product<D>(sum[0], p[0], tiles.values[last]);
    wgmma_wait<0>();
  }

  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int y = own + 8 * half + lane_row();
    float all = row_sum(total[half]);
    if (!here) all = NOT_A_NUMBER;  // a tile never came
    factor[half] = all != 0 ? 1 / all : 0;
    if (first + y < T && lane_column() == 0)  // log 0 = -inf: saw nothing
      lse[y] = all != 0 ? top[half] * scale + logf(all) : -INFINITE;
  }
  store_own_rows<D>(sum[0], factor, out + (long long)own * step, T - first - own, step);
}

template <typename Number, int D>
__global__ void __launch_bounds__(384, 1) attention_hopper_forward(
    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
    const __grid_constant__ TensorMap v, const bool* mask, Number* out, float* lse,
    int heads, int kv_heads, int T, int S, int offset, float scale) {
  DYNAMIC_SHARED(char, memory);
  Tiles<Number, D>& tiles = at_block<Tiles<Number, D>>(memory);
  const int first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
  // keys that some query sees
  const int seen = min(S, min(first + QUERIES, T) + offset);
  const int count = seen > 0 ? (seen + KEYS - 1) / KEYS : 0;
  init_barriers(tiles);
  if (threadIdx.x < COMPUTING) {
    set_registers_up<240>();
    const long long row = ((long long)blockIdx.z * T + first) * heads + head;
    const long long row_of_lse = ((long long)blockIdx.z * heads + head) * T + first;
    compute(tiles, mask_of(mask, blockIdx.z, S), out + row * D, lse + row_of_lse,
            heads * D, first, count, T, S, offset, scale);
  } else {
    set_registers_down<24>();
    if (threadIdx.x == COMPUTING && count > 0)
      fetch_all(tiles, q, k, v, first, head, kv_head, count);
  }
}
