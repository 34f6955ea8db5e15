// Cross-entropy straight from the logits: the probabilities are never stored.
//
//   loss = top + total - (1 - s) x[id] - s mean(x), 0 where the id is to be ignored
//
// with top the row's largest logit, total = log Σ e^(x - top), s the label smoothing.
//
// Shapes    logits (N, V): float, float16 or bfloat16; ids (N,); losses, top and total
//           (N,), float, the last two kept for the backward pass
// Thread    every blockDim-th logit of a row
// Grid      (N); blocks of 32 to 512 threads, by V
// Moves     the logits once, with label smoothing twice
// FLOPs     3 a logit and an exponential
// Source    the sum on the way: arXiv 1805.02867, algorithm 3; smoothing 1512.00567
// Improves  on a softmax that is stored, read, and stored again as its logarithm
#include "ptx.cuh"
#include "rows.cuh"

template <typename Number>
__global__ void cross_entropy_forward(const Number* logits, const long long* ids,
                                      float* losses, float* top, float* total,
                                      int classes, long long ignored, float smoothing) {
  logits = row_of(logits, classes);
  const Exponentials row = exponentials(logits, classes);
  float mean = 0;  // of x - top
  if (smoothing > 0) {
    for (int i = threadIdx.x; i < classes; i += blockDim.x)
      mean += to_float(logits[i]) - row.top;
    mean = block_sum(mean) / classes;
  }
  if (threadIdx.x > 0) return;
  const long long id = ids[blockIdx.x];
  const float sum = logf(row.total);
  top[blockIdx.x] = row.top;
  total[blockIdx.x] = sum;
  float loss = 0;
  if (id != ignored) {
    const bool known = 0 <= id && id < classes;  // another one would be read elsewhere
    const float chosen = known ? to_float(logits[id]) - row.top : -INFINITE;
    loss = sum - chosen * (1 - smoothing);
    if (smoothing > 0) loss -= mean * smoothing;
  }
  losses[blockIdx.x] = loss;
}
