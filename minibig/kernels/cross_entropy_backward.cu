// The backward pass of cross-entropy: writes the gradient of the logits, and nothing
// else.
//
//   dlogits[i] = dy (e^(x[i] - top - total) - s / V - (1 - s) [i is the id])
//
// with what the forward pass kept of a row, and s the label smoothing. A row whose id
// is to be ignored gets zeros.
//
// Shapes    logits, dlogits (N, V): float, float16 or bfloat16; ids (N,); top, total
//           and dy (N,), float
// Thread    every blockDim-th logit of a row
// Grid      (N); blocks of 32 to 512 threads, by V
// Moves     logits and dlogits once
// FLOPs     4 a logit and an exponential
// Source    arXiv 1512.00567, section 7
// Improves  on a kernel each for difference, exponential, the target and the product
#include "ptx.cuh"
#include "rows.cuh"

template <typename Number>
__global__ void cross_entropy_backward(const Number* logits, const long long* ids,
                                       const float* top, const float* total,
                                       const float* dy, Number* dlogits, int classes,
                                       long long ignored, float smoothing) {
  logits = row_of(logits, classes), dlogits = row_of(dlogits, classes);
  const long long id = ids[blockIdx.x];
  const float high = top[blockIdx.x], sum = total[blockIdx.x], d = dy[blockIdx.x];
  for (int i = threadIdx.x; i < classes; i += blockDim.x) {
    float p = expf(to_float(logits[i]) - high - sum) - smoothing / classes;
    if (i == id) p -= 1 - smoothing;
    from_float(id == ignored ? 0 : p * d, dlogits[i]);  // what is ignored may be NaN
  }
}
