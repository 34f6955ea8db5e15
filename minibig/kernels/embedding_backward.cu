// The gradient of an embedding's table: row i is the sum of the rows whose id is i.
//
// An atomic addition for each row would give other bits each time, and wait where one
// id comes often. Here the ids come sorted, equal ones in a run:
//
//   embedding_backward  sums 32 neighbours; a run that lies among them is done, of one
//                       that goes on beyond them there is a part
//   embedding_joined    adds up the parts of each such run, in order
//
// Shapes    ids (N,), sorted; order (N,): where each stood before; rows (N, C) and
//           table (V, C), zeros before: float, float16 or bfloat16; parts (N / 32, 2,
//           C), float: the end of the run before, and the beginning of the one after
// Thread    one column of 32 rows
// Grid      (N / 32, C / 128), rounded up; blocks of 128
// Moves     rows once, rows of the table that occur once, parts twice at most
// FLOPs     1 a number
// Source    the sum of segments: Blelloch, "Prefix Sums and Their Applications", 1990,
//           section 1.5
// Improves  on running sums of all rows in double, of which differences are taken
#include "ptx.cuh"

constexpr int CHUNK = 32;

// Whether the run of `id` begins in the chunk that begins at `first`.
__device__ __forceinline__ bool begins_here(const long long* ids, int first,
                                            long long id) {
  return first == 0 || ids[first - 1] != id;
}

template <typename Number>
__global__ void embedding_backward(const long long* ids, const long long* order,
                                   const Number* rows, Number* table, float* parts,
                                   int count, int width, long long vocabulary) {
  const long long column = (long long)blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= width) return;
  const int first = blockIdx.x * CHUNK, stop = min(first + CHUNK, count);
  float sum = 0;
  for (int i = first; i < stop; i++) {
    const long long id = ids[i];
    sum += to_float(rows[order[i] * width + column]);
    const bool ends = i + 1 == count || ids[i + 1] != id;
    if (!ends && i + 1 < stop) continue;
    const bool begins = begins_here(ids, first, id);
    if (!begins || !ends) {
      parts[(blockIdx.x * 2ll + begins) * width + column] = sum;
    } else if (0 <= id && id < vocabulary) {
      from_float(sum, table[id * width + column]);
    }
    sum = 0;
  }
}

template <typename Number>
__global__ void embedding_joined(const long long* ids, const float* parts,
                                 Number* table, int count, int width,
                                 long long vocabulary) {
  const long long column = (long long)blockIdx.y * blockDim.x + threadIdx.x;
  const int first = blockIdx.x * CHUNK, stop = first + CHUNK;
  if (column >= width || stop >= count) return;
  const long long id = ids[stop - 1];
  const bool goes_on = ids[stop] == id && begins_here(ids, first, id);
  if (!goes_on || id < 0 || id >= vocabulary) return;
  float sum = parts[(blockIdx.x * 2ll + 1) * width + column];
  for (long long i = stop; i < count && ids[i] == id; i += CHUNK)
    sum += parts[i / CHUNK * 2 * width + column];
  from_float(sum, table[id * width + column]);
}
