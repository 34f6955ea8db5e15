// The Euclidean norm of all gradients of a model together.
//
//   gradient_norm_parts  Σ g² of each chunk of 4,096 numbers
//   gradient_norm        the root of the sum of the parts, always in the same order
//
// Shapes    table: an Entry for each gradient, count of them, as bytes; what it points
//           to is float; parts (chunks,) and norm (), double
// Thread    16 numbers of a gradient, 256 apart; every 512th part
// Grid      (chunks of all gradients), blocks of 256; one block of 512
// Moves     the gradients once
// FLOPs     2 a number
// Source    arXiv 1211.5063, algorithm 1, which needs it
// Improves  on a product with itself and a sum for each gradient
#include "ptx.cuh"
#include "rows.cuh"
#include "parameters.cuh"

struct Entry {
  long long first, size;  // chunks before, numbers
  const float* g;
};

__global__ void gradient_norm_parts(const unsigned char* table, int count,
                                    double* parts) {
  const Entry e = entry_of_block((const Entry*)table, count);
  float sum = 0;
  for_chunk(e, [&](long long i) { sum += e.g[i] * e.g[i]; });
  const double all = block_sum((double)sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = all;
}

__global__ void gradient_norm(const double* parts, int chunks, double* norm) {
  double sum = 0;
  for (int i = threadIdx.x; i < chunks; i += blockDim.x) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) norm[0] = sqrt(sum);
}
