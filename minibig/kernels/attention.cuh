// What all rungs of attention share: their words, and who may see whom.
//
// q (B, H, T, D): batch, heads, queries, head width. k, v (B, G, S, D): G heads of keys
// and values, each serving H / G heads of queries (arXiv 2305.13245). All arrays are
// contiguous. mask (B, S) or null: false hides a key from every query (padding).
// Causal: query t sees keys 0 … t + offset; without a causal mask the offset is S.
#pragma once

#define INFINITE __int_as_float(0x7f800000)
#define LOG2_E 1.44269504f

__device__ __forceinline__ bool may_attend(int t, int s, int S, int offset,
                                           const bool* mask) {
  return s < S && s <= t + offset && (mask == nullptr || mask[s]);
}

// The part of the mask that belongs to one sequence of the batch.
__device__ __forceinline__ const bool* mask_of(const bool* mask, int batch, int S) {
  return mask == nullptr ? nullptr : mask + (long long)batch * S;
}
