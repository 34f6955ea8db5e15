// A step of Adam or AdamW for all parameters of a model at once.
//
//   p *= shrink             1 - lr · decay in AdamW, 1 in Adam
//   g += decay p            0 in AdamW
//   m  = beta1 m + (1 - beta1) g
//   v  = beta2 v + (1 - beta2) g²
//   p -= rate m / (√v + eps)
//
// Shapes    table: an Entry for each parameter, count of them, as bytes; what it points
//           to is float, p, m and v are changed in place
// Thread    16 numbers of a parameter, 256 apart
// Grid      (chunks of 4,096 numbers of all parameters); blocks of 256
// Moves     p, m and v in and out, g in: 28 bytes a number
// FLOPs     about 12 a number
// Source    arXiv 1412.6980, algorithm 1; AdamW 1711.05101, algorithm 2. `rate` and
//           `eps` hold the corrections of both means
// Improves  on a dozen kernels for each parameter
#include "parameters.cuh"

struct Entry {
  long long first, size;  // chunks before, numbers
  float* p;
  const float* g;
  float *m, *v;
  float shrink, decay, beta1, rest1, beta2, rest2, rate, eps;  // rest1: 1 - beta1
};

__global__ void adam(const unsigned char* table, int count) {
  const Entry e = entry_of_block((const Entry*)table, count);
  for_chunk(e, [&](long long i) {
    const float p = e.p[i] * e.shrink;
    const float g = e.g[i] + e.decay * p;
    const float m = e.m[i] * e.beta1 + g * e.rest1;
    const float v = e.v[i] * e.beta2 + g * g * e.rest2;
    e.m[i] = m;
    e.v[i] = v;
    e.p[i] = p - m / (sqrtf(v) + e.eps) * e.rate;
  });
}
