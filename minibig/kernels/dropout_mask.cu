// Which numbers dropout keeps: NumPy's random bits (PCG64), made where they are needed.
//
//   state_n = multiplier state_(n-1) + step, of 128 bits
//   bits_n  = (upper half ^ lower half) turned right by the upper 6 bits of the state
//   keep[i] = the i-th 16 bits ≥ least
//
// A draw is a run of states, but n steps of such a generator are one multiplication and
// one addition, found in log n steps: each thread jumps to its own place, and the mask
// is bit for bit that of the CPU.
//
// Shapes    keep (count,)
// Thread    32 draws: 128 numbers of the mask
// Grid      (count / 32,768, rounded up); blocks of 256
// Moves     one byte a number, out
// FLOPs     none; about 20 operations on whole numbers for each of the mask
// Source    dropout, arXiv 1207.0580; the generator, O'Neill, "PCG: A Family of Simple
//           Fast Space-Efficient Statistically Good Algorithms", 2014; jumps, Brown,
//           "Random Number Generation with Arbitrary Strides", 1994
// Improves  on drawing on the CPU and copying

constexpr int DRAWS = 32;  // by each thread
typedef unsigned long long Word;
struct Wide { Word high, low; };  // 128 bits

__device__ __forceinline__ Wide sum(Wide a, Wide b) {
  const Word low = a.low + b.low;
  return {a.high + b.high + (low < a.low), low};
}

// The upper 64 bits of a · b, from products of halves.
__device__ __forceinline__ Word upper(Word a, Word b) {
  const Word a0 = (unsigned)a, a1 = a >> 32, b0 = (unsigned)b, b1 = b >> 32;
  const Word cross = a1 * b0 + (a0 * b0 >> 32);
  const Word other = a0 * b1 + (unsigned)cross;
  return a1 * b1 + (cross >> 32) + (other >> 32);
}

__device__ __forceinline__ Wide product(Wide a, Wide b) {
  return {upper(a.low, b.low) + a.high * b.low + a.low * b.high, a.low * b.low};
}

__global__ void dropout_mask(bool* keep, long long count, int least,
                             long long state_high, long long state_low,
                             long long step_high, long long step_low) {
  const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const Wide multiplier = {0x2360ED051FC65DA4ull, 0x4385DF649FCCF645ull};
  const Wide step = {(Word)step_high, (Word)step_low};
  Wide state = {(Word)state_high, (Word)state_low};

  // Jump over the draws of the threads before: squares of "times factor, plus term".
  Wide factor = multiplier, term = step;
  for (Word left = thread * DRAWS; left; left >>= 1) {
    if (left & 1) state = sum(product(state, factor), term);
    term = sum(product(term, factor), term);
    factor = product(factor, factor);
  }
  for (int draw = 0; draw < DRAWS; draw++) {
    state = sum(product(state, multiplier), step);
    const Word mixed = state.high ^ state.low;
    const int turn = state.high >> 58;
    const Word bits = mixed >> turn | mixed << (-turn & 63);
    const long long first = (thread * DRAWS + draw) * 4;
    for (int i = 0; i < 4; i++) {
      if (first + i < count) keep[first + i] = (int)(bits >> 16 * i & 0xffff) >= least;
    }
  }
}
