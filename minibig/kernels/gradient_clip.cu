// All gradients of a model, scaled in place.
//
//   gradient_scale  g *= factor, which the CPU knows
//   gradient_clip   g *= min(max_norm / (norm + 1e-6), 1), where it need not know the norm
//
// A norm that is NaN makes NaN of every number; an infinite one zeros, NaN of infinities,
// and NaN of every number where max_norm is infinite, too.
//
// Shapes    table: an Entry for each gradient, count of them, as bytes; what it points
//           to is float, and no two overlap; norm (), double
// Thread    16 numbers of a gradient, 256 apart; the first of a block finds the factor
// Grid      (chunks of 4,096 numbers of all gradients); blocks of 256
// Moves     the gradients in and out: 8 bytes a number; none where gradient_clip's
//           factor is 1
// FLOPs     1 a number
// Source    arXiv 1211.5063, algorithm 1; the 1e-6 is PyTorch's
// Improves  on a kernel for each gradient, and the kernels that make the factor
#include "parameters.cuh"

struct Entry {
  long long first, size;  // chunks before, numbers
  float* g;
};

__device__ __forceinline__ void scale(const unsigned char* table, int count,
                                      float factor) {
  const Entry e = entry_of_block((const Entry*)table, count);
  for_chunk(e, [&](long long i) { e.g[i] *= factor; });
}

__global__ void gradient_scale(const unsigned char* table, int count, float factor) {
  scale(table, count, factor);
}

__global__ void gradient_clip(const unsigned char* table, int count,
                              const double* norm, double max_norm) {
  __shared__ float factor;
  if (threadIdx.x == 0) {
    const double ratio = max_norm / (norm[0] + 1e-6);
    factor = ratio >= 1 ? 1.0f : (float)ratio;  // NaN stays NaN: fmin would hide it
  }
  __syncthreads();
  if (factor != 1) scale(table, count, factor);
}
