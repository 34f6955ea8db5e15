// All parameters of a model, or all gradients, in another kind of numbers.
//
//   y = x, rounded to the nearest; float16 is infinite from 65,520 on
//
// Shapes    table: an Entry for each array, count of them, as bytes; what it points to
//           is From and To: float, float16 or bfloat16
// Thread    16 numbers of an array, 256 apart
// Grid      (chunks of 4,096 numbers of all arrays); blocks of 256
// Moves     each number once in, once out: 6 bytes between float and 16 bits
// FLOPs     none
// Source    arXiv 1710.03740, section 3.1: copies of the weights in 16 bits for each step
// Improves  on a kernel for each array
#include "ptx.cuh"
#include "parameters.cuh"

template <typename From, typename To>
struct Entry {
  long long first, size;  // chunks before, numbers
  const From* x;
  To* y;
};

template <typename From, typename To>
__global__ void cast(const unsigned char* table, int count) {
  const Entry<From, To> e = entry_of_block((const Entry<From, To>*)table, count);
  for_chunk(e, [&](long long i) { from_float(to_float(e.x[i]), e.y[i]); });
}
