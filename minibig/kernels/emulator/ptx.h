// The functions of ptx.cuh in plain C++: what an instruction does, said slowly.
#pragma once

// The launcher reserves dynamic shared memory; a guard page follows it.
#define DYNAMIC_SHARED(type, name) type* const name = (type*)emulator::shared_memory

inline float to_float(float16 x) {  // a float's exponent counts from 112 lower
  const float size = __uint_as_float((x.bits & 0x7fffu) << 13) * 0x1p112f;
  const bool finite = (x.bits & 0x7c00) != 0x7c00;
  const float y = finite ? size : x.bits & 1023 ? NAN : INFINITY;
  return x.bits >> 15 ? -y : y;
}

// To nearest, ties to even: the next float16 is 2^(exponent - 10) away.
inline void from_float(float x, float16& y) {
  const int sign = signbit(x) ? 0x8000 : 0;
  const float size = fabsf(x);
  if (x != x) {
    y.bits = 0x7fff;
  } else if (size >= 65520.0f) {
    y.bits = sign | 0x7c00;  // infinity
  } else {
    const int exponent = size < 0x1p-14f ? -14 : ilogbf(size);
    const int steps = (int)nearbyintf(ldexpf(size, 10 - exponent));
    const int normal = exponent + 14;  // 0 for the numbers below 2^-14, too
    y.bits = sign | ((normal << 10) + steps);  // 1024 steps: next exponent
  }
}

inline float to_float(bfloat16 x);
inline void from_float(float x, bfloat16& y);

template <typename Number>
unsigned pack(float low, float high) {
  Number a, b;
  from_float(low, a), from_float(high, b);
  return a.bits | (unsigned)b.bits << 16;
}

namespace emulator {
// Number i, 0 or 1, of a register.
template <typename Number>
float half_of(unsigned packed, int i) {
  return to_float(Number{(unsigned short)(packed >> 16 * i)});
}

struct Fragments {
  unsigned a[4], b[2];
};

struct alignas(16) Row {
  unsigned short number[8];
};
}  // namespace emulator

// A lane holds of A rows g and g + 8, of B column g, where g = lane / 4; of both the
// numbers 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 along k, where t = lane % 4. Of the sum it
// holds rows g and g + 8, columns 2 t and 2 t + 1.
template <typename Number>
void mma_m16n8k16(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  using namespace emulator;
  const Fragments own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const int turn = show(MINIBIG_ALL, own, __FILE__, __LINE__);
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; i++) {
    const int column = 2 * t + i % 2;
    for (int k = 0; k < 16; k++) {
      const unsigned* x = shown<Fragments>(g * 4 + k % 8 / 2, turn).a;
      const unsigned* y = shown<Fragments>(column * 4 + k % 8 / 2, turn).b;
      sum[i] += half_of<Number>(x[i / 2 + k / 8 * 2], k % 2) *
                half_of<Number>(y[k / 8], k % 2);
    }
  }
}

inline void ldmatrix_x4(unsigned (&x)[4], const void* row) {
  using namespace emulator;
  const int turn = show(MINIBIG_ALL, *(const Row*)row, __FILE__, __LINE__);
  const int g = lane() / 4, t = lane() % 4;
  for (int m = 0; m < 4; m++) {
    const Row& r = shown<Row>(m * 8 + g, turn);
    x[m] = r.number[2 * t] | (unsigned)r.number[2 * t + 1] << 16;
  }
}

inline void ldmatrix_x4_transposed(unsigned (&x)[4], const void* row) {
  using namespace emulator;
  const int turn = show(MINIBIG_ALL, *(const Row*)row, __FILE__, __LINE__);
  const int g = lane() / 4, t = lane() % 4;
  for (int m = 0; m < 4; m++) {
    const Row &first = shown<Row>(m * 8 + 2 * t, turn),
              &second = shown<Row>(m * 8 + 2 * t + 1, turn);
    x[m] = first.number[g] | (unsigned)second.number[g] << 16;
  }
}

inline void copy_async_16(void* to, const void* from, bool inside) {
  emulator::copy_later(to, inside ? from : nullptr);
}
inline void copy_async_commit() { emulator::close_copies(); }
template <int N>
void copy_async_wait() {
  emulator::finish_copies(N);
}
