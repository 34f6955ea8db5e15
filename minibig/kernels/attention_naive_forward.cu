// Attention, rung 1: softmax(Q Kᵀ scale) V in three kernels, each written as its
// formula.
//
//   scores        p[t][s] = scale Σ_d q[t][d] k[s][d], or -inf where t may not see s
//   softmax       p[t][:] = exp(p[t][:] - max) / Σ exp(p[t][:] - max), or zeros
//   weighted_sum  out[t][d] = Σ_s p[t][s] v[s][d]
//
// Shapes    q, out (B, H, T, D); k, v (B, G, S, D); mask (B, S) or null; p (B, H, T, S)
// Thread    one number of the result; in softmax one row
// Grid      (numbers of a matrix / 256, H, B), in softmax (B H T / 256); blocks of 256
// Moves     at least q, k, v and out once, p five times (written; in softmax read and
//           written twice; read). In fact every thread reads its row and column anew
// FLOPs     4 B H T S D, in two products
// Source    arXiv 1706.03762, equation 1
// Improves  on nothing: it is the slowest
#include "attention.cuh"

__global__ void attention_naive_scores(const float* q, const float* k, const bool* mask,
                                       float* p, int heads, int kv_heads, int T, int S,
                                       int D, int offset, float scale) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (long long)T * S) return;
  const int t = i / S, s = i % S, head = blockIdx.y, batch = blockIdx.z;
  const long long matrix = (long long)batch * heads + head;
  const long long kv_matrix = (long long)batch * kv_heads + head / (heads / kv_heads);
  const float* query = q + (matrix * T + t) * D;
  const float* key = k + (kv_matrix * S + s) * D;
  float sum = 0;
  for (int d = 0; d < D; d++) sum += query[d] * key[d];
  const bool visible = may_attend(t, s, S, offset, mask_of(mask, batch, S));
  p[matrix * T * S + i] = visible ? sum * scale : -INFINITE;
}

__global__ void attention_naive_softmax(float* p, int S, long long rows) {
  const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  p += row * S;
  float top = -INFINITE, total = 0;
  for (int s = 0; s < S; s++) top = fmaxf(top, p[s]);
  if (top == -INFINITE) top = 0;  // a row that sees nothing: exp(-inf) = 0 throughout
  for (int s = 0; s < S; s++) total += p[s] = expf(p[s] - top);
  for (int s = 0; s < S; s++) p[s] = total != 0 ? p[s] / total : 0;
}

__global__ void attention_naive_weighted_sum(const float* p, const float* v, float* out,
                                             int heads, int kv_heads, int T, int S,
                                             int D) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (long long)T * D) return;
  const int t = i / D, d = i % D, head = blockIdx.y, batch = blockIdx.z;
  const long long matrix = (long long)batch * heads + head;
  const long long kv_matrix = (long long)batch * kv_heads + head / (heads / kv_heads);
  const float* weights = p + (matrix * T + t) * S;
  const float* values = v + kv_matrix * S * D;
  float sum = 0;
  for (int s = 0; s < S; s++) sum += weights[s] * values[(long long)s * D + d];
  out[(matrix * T + t) * D + d] = sum;
}
