// Attention, rung 1, backward: from dO to dQ, dK, dV, with the forward's p at hand.
//
//   dP = dO Vᵀ                     the forward's `scores`, without mask and scale
//   dS = P (dP - Σ_s P dP) scale   softmax_backward, below; it overwrites dP
//   dQ = dS K                      the forward's `weighted_sum`
//   dV = Pᵀ dO, dK = dSᵀ Q         transposed_sum, below, launched twice
//
// A head of keys adds up what its H / G heads of queries say. No two threads write to
// one place: every run gives the same bits.
//
// Shapes    p, dp (B, H, T, S); x (B, H, T, D), dO or Q; dx (B, G, S, D), dV or dK
// Thread    one number of the result; in softmax_backward one row
// Grid      (S D / 256, G, B), in softmax_backward (B H T / 256); blocks of 256
// Moves     at least p twice, dp five times, q, k, v, dO and the results once
// FLOPs     8 B H T S D, in four products
// Source    arXiv 1706.03762, equation 1; softmax's rule dS = (diag(p) - p pᵀ) dP
// Improves  on nothing: it is the slowest
#include "attention.cuh"

__global__ void attention_naive_softmax_backward(const float* p, float* dp, int S,
                                                 float scale, long long rows) {
  const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  p += row * S;
  dp += row * S;
  float mean = 0;
  for (int s = 0; s < S; s++) mean += p[s] * dp[s];
  for (int s = 0; s < S; s++) dp[s] = p[s] * (dp[s] - mean) * scale;
}

__global__ void attention_naive_transposed_sum(const float* p, const float* x,
                                               float* dx, int heads, int kv_heads,
                                               int T, int S, int D) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (long long)S * D) return;
  const int s = i / D, d = i % D, group = heads / kv_heads;
  const long long kv_matrix = (long long)blockIdx.z * kv_heads + blockIdx.y;
  float sum = 0;
  for (long long row = kv_matrix * group * T; row < (kv_matrix + 1) * group * T; row++)
    sum += p[row * S + s] * x[row * D + d];
  dx[(kv_matrix * S + s) * D + d] = sum;
}
