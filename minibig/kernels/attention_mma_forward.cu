// Attention, rung 4: flash attention on tensor cores. 16 bits in, sums in float.
//
// The loops are those of rung 3. What is new: both products are made by mma
// (`mma.cuh`), many times as fast as floats can be multiplied; the weights P never
// leave their registers; and while one tile is at work the next one arrives
// (copy_async): keys, then their values, then the next keys, in two stages of shared
// memory. Weights are powers of two: e^(scale s - m) = 2^(c s - c') is one multiply-add
// and one instruction.
//
// Shapes    q, out (B, H, T, D); k, v (B, G, S, D), both float16 or both bfloat16, from
//           addresses that divide by 16; mask (B, S) or null; lse (B, H, T), float.
//           scale > 0; D divides by 16
// Thread    of 32 queries, which belong to its warp, 4 (`mma.cuh`: rows g and g + 8,
//           twice), with a quarter of their scores and of their results
// Grid      (tiles of 128 queries, H, B), those with most keys first; blocks of 128
// Shared    128 queries, 64 keys, 64 values: 64 kB at D = 128, so that two blocks fit
//           into an A100 or H100
// Moves     at least q, k, v, out and lse once: memory is linear in T and S. k and v
//           are read T/128 times, mostly from the L2 cache. Out of shared memory come,
//           for each tile, its queries once, its keys and values once a warp
// FLOPs     4 B H T S D; causal tiles that no query of a block sees are not visited
// Source    arXiv 2307.08691, algorithm 1; swizzle and fragments: PTX ISA, ldmatrix,
//           mma
// Improves  on flash
#include "ptx.cuh"
#include "attention.cuh"
#include "mma.cuh"

template <typename Number, int D>
__global__ void __launch_bounds__(128, 2) attention_mma_forward(
    const Number* q, const Number* k, const Number* v, const bool* mask, Number* out,
    float* lse, int heads, int kv_heads, int T, int S, int offset, float scale) {
  constexpr int QUERIES = 128, KEYS = 64, M = QUERIES / 64, N = KEYS / 8;
  DYNAMIC_SHARED(Number, memory);
  Number* queries = memory;               // (QUERIES, D)
  Number* keys = queries + QUERIES * D;   // (KEYS, D)
  Number* values = keys + KEYS * D;       // (KEYS, D)

  const int first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  const int own = warp_in_block() * 16 * M;  // the warp's first row of the tile
  const int batch = blockIdx.z, head = blockIdx.y, kv_head = head / (heads / kv_heads);
  const long long row = ((long long)batch * heads + head) * T + first;
  const long long kv_row = ((long long)batch * kv_heads + kv_head) * S;
  const Number *k_rows = k + kv_row * D, *v_rows = v + kv_row * D;  // the next tile's
  const float scale_2 = scale * LOG2_E;
  mask = mask_of(mask, batch, S);

  float top[M][2], total[M][2] = {}, sum[M][D / 8][4] = {};
#pragma unroll
  for (int i = 0; i < M; i++) top[i][0] = top[i][1] = -INFINITE;
  const int seen = min(S, first + QUERIES + offset);  // keys that some query sees
  copy_tile<QUERIES, D>(queries, q + row * D, T - first);
  copy_tile<KEYS, D>(keys, k_rows, S);
  copy_async_commit();
  for (int start = 0; start < seen; start += KEYS) {
    copy_async_wait<0>();
    __syncthreads();  // the keys are here, and all are done with the values before
    copy_tile<KEYS, D>(values, v_rows, S - start);
    copy_async_commit();
    float s[M][N][4] = {};
    add_product_transposed<D>(s, queries + own * D, keys);

    hide_keys(s, first + own, start, S, offset, mask);
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) {  // rows g and g + 8
        float high = top[i][half];
#pragma unroll
        for (int n = 0; n < N * 2; n++)
          high = fmaxf(high, s[i][n / 2][2 * half + n % 2]);
        high = row_max(high);
        const float shift = high == -INFINITE ? 0 : high * scale_2;  // nothing seen yet
        const float shrink = exp2f(top[i][half] * scale_2 - shift);
        top[i][half] = high;
        total[i][half] *= shrink;
#pragma unroll
        for (int n = 0; n < D / 4; n++) sum[i][n / 2][2 * half + n % 2] *= shrink;
#pragma unroll
        for (int n = 0; n < N * 2; n++) {
          float& p = s[i][n / 2][2 * half + n % 2];
          p = exp2f(p * scale_2 - shift);
          total[i][half] += p;
        }
      }

    unsigned p[M][N / 2][4];
    round_to_operand<Number>(s, p);
    copy_async_wait<0>();
    __syncthreads();  // the values are here, and all are done with the keys
    k_rows += KEYS * D, v_rows += KEYS * D;
    if (start + KEYS < seen) copy_tile<KEYS, D>(keys, k_rows, S - start - KEYS);
    copy_async_commit();
    add_product<D>(sum, p, values);
  }

  float factor[M][2];
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int y = own + 16 * i + 8 * half + lane_row();
      const float all = row_sum(total[i][half]);
      factor[i][half] = all != 0 ? 1 / all : 0;
      if (first + y < T && lane_column() == 0)  // log 0 = -inf: saw nothing
        lse[row + y] = all != 0 ? top[i][half] * scale + logf(all) : -INFINITE;
    }
  copy_async_wait<0>();
  __syncthreads();  // where nothing was seen the queries may still be on their way
  store_rows<D>(sum, factor, queries + own * D, out + (row + own) * D,
                T - first - own);
}
