// The functions of wgmma.cuh in plain C++: products that happen when they are waited
// for, from what lies in registers and shared memory by then.
#pragma once

inline unsigned long long descriptor_of(const void* p, int leading = 16) {
  return describe((unsigned)((char*)p - emulator::shared_memory), leading);
}

namespace emulator {
struct Product {
  void (*run)(const Product&);
  float* c;
  const unsigned* a;  // null: by its descriptor
  unsigned long long a_at, b_at;
  bool add, transposed;
  int group;
};
constexpr int MOST_PRODUCTS = 64;  // under way, a thread
struct Products {
  Product begun[MOST_PRODUCTS];
  int first, last, group;
  unsigned block;
};
inline Products products[1024];
inline Products& own_products() {
  Products& own = products[threadIdx.x];
  if (own.block != blocks) own.first = own.last = own.group = 0, own.block = blocks;
  return own;
}

inline void begin(Product p) {
  Products& own = own_products();
  if (own.last - own.first == MOST_PRODUCTS) stop("begins too many products");
  p.group = own.group;
  own.begun[own.last++ % MOST_PRODUCTS] = p;
}

inline bool round_over(const void*, int round) { return round != rounds; }

// The number at (row, column) of what a descriptor tells of.
template <typename Number>
float described(unsigned long long descriptor, int row, int column) {
  const int leading = (descriptor >> 16 & 0x3fff) << 4;
  const int eight_rows = (descriptor >> 32 & 0x3fff) << 4;
  uintptr_t at = (uintptr_t)shared_memory + ((descriptor & 0x3fff) << 4) +
                 column / 64 * leading + row / 8 * eight_rows + row % 8 * 128 +
                 column % 64 * 2;
  if (descriptor >> 62 == 1) at ^= (at >> 7 & 7) << 4;
  return to_float(*(const Number*)at);
}

struct Operand {
  unsigned a[4];
};

// Rows g and g + 8 of the warp's 16 of A.
template <typename Number>
void rows_of(const Product& p, float (&x)[2][16]) {
  const int g = lane() / 4, warp = threadIdx.x / 32 % 4;
  Operand own = {};
  if (p.a) memcpy(&own, p.a, sizeof own);
  const int turn = show(MINIBIG_ALL, own, __FILE__, __LINE__);
  for (int half = 0; half < 2; half++)
    for (int k = 0; k < 16; k++)
      x[half][k] = p.a ? half_of<Number>(shown<Operand>(g * 4 + k % 8 / 2, turn)
                                             .a[half + k / 8 * 2], k % 2)
                       : described<Number>(p.a_at, 16 * warp + g + 8 * half, k);
}

template <typename Number, int N>
void multiply(const Product& p) {
  float x[2][16];
  rows_of<Number>(p, x);
  for (int j = 0; j < N / 4; j++) {
    const int column = j / 2 * 8 + lane() % 4 * 2 + j % 2;
    float *upper = p.c + j / 2 * 4 + j % 2, *lower = upper + 2;
    if (!p.add) *upper = *lower = 0;
    for (int k = 0; k < 16; k++) {
      const float y = p.transposed ? described<Number>(p.b_at, column, k)
                                   : described<Number>(p.b_at, k, column);
      *upper += x[0][k] * y, *lower += x[1][k] * y;
    }
  }
}
}  // namespace emulator

inline void wgmma_fence() {}
inline void wgmma_commit() { emulator::own_products().group++; }
template <int N>
void wgmma_wait() {
  using namespace emulator;
  wait_until(round_over, nullptr, rounds, __FILE__, __LINE__);  // others go on
  Products& own = own_products();
  while (own.first < own.last) {
    const Product& p = own.begun[own.first % MOST_PRODUCTS];
    if (p.group >= own.group - N) return;
    own.first++;
    p.run(p);
  }
}

template <int N>
void wgmma_wait_after(float, volatile float*) { wgmma_wait<N>(); }

template <typename Number, int N>
void wgmma_transposed_first(float (&c)[N / 8][4], unsigned long long a,
                            unsigned long long b) {
  emulator::begin({emulator::multiply<Number, N>, c[0], nullptr, a, b, false, true});
}
template <typename Number, int N>
void wgmma_transposed(float (&c)[N / 8][4], unsigned long long a,
                      unsigned long long b) {
  emulator::begin({emulator::multiply<Number, N>, c[0], nullptr, a, b, true, true});
}
template <typename Number, int N>
void wgmma_transposed_first(float (&c)[N / 8][4], const unsigned (&a)[4],
                            unsigned long long b) {
  emulator::begin({emulator::multiply<Number, N>, c[0], a, 0, b, false, true});
}
template <typename Number, int N>
void wgmma_transposed(float (&c)[N / 8][4], const unsigned (&a)[4],
                      unsigned long long b) {
  emulator::begin({emulator::multiply<Number, N>, c[0], a, 0, b, true, true});
}
template <typename Number, int N>
void wgmma(float (&c)[N / 8][4], const unsigned (&a)[4], unsigned long long b) {
  emulator::begin({emulator::multiply<Number, N>, c[0], a, 0, b, true, false});
}

template <int N> void set_registers_up() {}
template <int N> void set_registers_down() {}
