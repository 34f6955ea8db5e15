// Products of small matrices on tensor cores, for a block of 4 warps.
//
// **The instruction.** mma.m16n8k16 belongs to a warp: C (16, 8) += A (16, 16) B (16,
// 8), A and B in 16 bits, C in float. No lane holds a whole matrix. Lane 4 g + t has
//
//     of A 4 registers            of B 2 registers     of C 4 floats
//
//       k   2t 2t+1  2t+8 2t+9      n     g              n   2t   2t+1
//     m                           k                    m
//     g     [ a0 ]   [ a2 ]       2t    [ b0           g     c0   c1
//     g+8   [ a1 ]   [ a3 ]       2t+1     ]           g+8   c2   c3
//                                 2t+8  [ b1
//                                 2t+9     ]
//
// a pair of neighbours along k in each register. Four neighbouring lanes, t = 0 … 3,
// share the rows g and g + 8 of C. Two C, side by side, lie just as one A does: (c0,
// c1) and (c2, c3) of the first are a0 and a1, those of the second a2 and a3. So what
// one product computed, rounded to 16 bits, goes into the next one from where it is.
//
// **Its operands** lie in shared memory, row by row. ldmatrix_x4 fetches four matrices
// of (8, 8) at once: lane 8 i + r says where row r of matrix i is (16 bytes), and gets
// of each matrix the pair (g; 2t, 2t+1), or transposed the pair (2t, 2t+1; g).
//
// **Swizzle.** A row of 64 numbers takes 128 bytes, all 32 banks: eight rows under each
// other would be read from the same 4 banks, one after the other. So the 16-byte chunks
// of a row change places, by an exclusive or with the number of the row (`place`).
// Eight rows, the same chunk of each, then lie in eight different groups of banks:
//
//     row 0   0 1 2 3 4 5 6 7        row 4   4 5 6 7 0 1 2 3
//     row 1   1 0 3 2 5 4 7 6        row 5   5 4 7 6 1 0 3 2
//     row 2   2 3 0 1 6 7 4 5        row 6   6 7 4 5 2 3 0 1
//     row 3   3 2 1 0 7 6 5 4        row 7   7 6 5 4 3 2 1 0
#pragma once

constexpr int THREADS = 128;

__device__ __forceinline__ int warp_in_block() { return threadIdx.x / 32; }
__device__ __forceinline__ int lane_row() { return threadIdx.x % 32 / 4; }     // g
__device__ __forceinline__ int lane_column() { return threadIdx.x % 4 * 2; }   // 2t

// So many neighbouring chunks can change places: 8, or as many of them as divide a row.
template <int D>
__device__ constexpr int group_of() {
  return D % 64 == 0 ? 8 : D % 32 == 0 ? 4 : 2;
}

// Where a chunk of 8 numbers lies in a tile of rows of D. Rows that are not as wide as
// all banks share them: what matters is the number of a row among those.
template <int D>
__device__ __forceinline__ int place(int row, int chunk) {
  constexpr int GROUP = group_of<D>();
  return row * D + (chunk ^ (row / (8 / GROUP) % GROUP)) * 8;
}

// Starts to copy ROWS rows of D numbers, contiguous in memory, into a tile; zeros
// beyond the first `rows` of them. A thread's chunks lie so many whole groups and so
// many times 8 rows apart that it has to find one place only.
template <int ROWS, int D, typename Number>
__device__ __forceinline__ void copy_tile(Number* tile, const Number* matrix,
                                          int rows) {
  constexpr int GROUP = group_of<D>(), STEP = THREADS / GROUP;
  const int row = threadIdx.x / GROUP, chunk = threadIdx.x % GROUP;
  tile += place<D>(row, chunk);
  matrix += row * D + chunk * 8;
#pragma unroll
  for (int y = 0; y < ROWS; y += STEP) {
    if (ROWS % STEP != 0 && row + y >= ROWS) break;
#pragma unroll
    for (int x = 0; x < D; x += 8 * GROUP)
      copy_async_16(tile + y * D + x, matrix + y * D + x, row + y < rows);
  }
}

// Where in a tile this lane points at for ldmatrix_x4 to fetch (16, 16) numbers: rows 0
// … 15, columns 16 k … 16 k + 15. Matrices 0 and 1 are the chunk on the left, 2 and 3
// that on the right, in the order of an A; of a B's transpose, 0 and 1 are rows 0 … 7,
// left and right, and so registers 0 and 1 are one B. Other rows lie so many times 16 D
// further.
template <int D>
__device__ __forceinline__ int lane_place(int k, bool transposed = false) {
  constexpr int GROUP = group_of<D>();
  const int lane = threadIdx.x % 32, whole = 2 * k / GROUP * GROUP;
  const int row = transposed ? lane / 16 * 8 + lane % 8 : lane % 16;
  const int right = transposed ? lane / 8 % 2 : lane / 16;
  return place<D>(row, 2 * k - whole + right) + whole * 8;
}

// c += A Bᵀ: A is 16 M rows of tile a, B 8 N rows of tile b. Unrolled by halves: enough
// to fetch operands long before they are used, and few enough registers hold them.
template <int D, int M, int N, typename Number>
__device__ __forceinline__ void add_product_transposed(float (&c)[M][N][4],
                                                       const Number* a,
                                                       const Number* b) {
#pragma unroll D / 32
  for (int k = 0; k < D / 16; k++) {
    unsigned x[M][4];
#pragma unroll
    for (int i = 0; i < M; i++) ldmatrix_x4(x[i], a + 16 * i * D + lane_place<D>(k));
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      unsigned y[4];  // two B: rows 8 j … 8 j + 7 of the tile, and the next eight
      ldmatrix_x4(y, b + 8 * j * D + lane_place<D>(k, true));
#pragma unroll
      for (int i = 0; i < M; i++) {
        mma_m16n8k16<Number>(c[i][j], x[i], {y[0], y[1]});
        mma_m16n8k16<Number>(c[i][j + 1], x[i], {y[2], y[3]});
      }
    }
  }
}

// c += A B: A is in registers, 16 M rows of 16 K numbers; B is 16 K rows of tile b.
template <int D, int M, int K, typename Number>
__device__ __forceinline__ void add_product(float (&c)[M][D / 8][4],
                                            const unsigned (&a)[M][K][4],
                                            const Number* b) {
#pragma unroll
  for (int k = 0; k < K; k++) {
#pragma unroll
    for (int j = 0; j < D / 8; j += 2) {
      unsigned y[4];  // two B: columns 8 j … 8 j + 7 of the tile, and the next eight
      ldmatrix_x4_transposed(y, b + 16 * k * D + lane_place<D>(j / 2));
#pragma unroll
      for (int i = 0; i < M; i++) {
        mma_m16n8k16<Number>(c[i][j], a[i][k], {y[0], y[1]});
        mma_m16n8k16<Number>(c[i][j + 1], a[i][k], {y[2], y[3]});
      }
    }
  }
}

// What a product computed, as the A of the next one.
template <typename Number, int M, int N>
__device__ __forceinline__ void round_to_operand(const float (&c)[M][N][4],
                                                 unsigned (&a)[M][N / 2][4]) {
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int n = 0; n < N * 2; n++) {
      const float* pair = c[i][n / 2] + n % 2 * 2;
      a[i][n / 4][n % 4] = pack<Number>(pair[0], pair[1]);
    }
}

// Writes 16 M rows, `rows` of them at most, times a factor, to memory; a factor of zero
// makes zeros of whatever a row holds, infinite or no number at all. Through the
// warp's own rows of a tile, of which nobody has need any more: there the pairs of all
// lanes come together to 16 bytes, neighbours to neighbours.
template <int D, int M, typename Number>
__device__ __forceinline__ void store_rows(const float (&c)[M][D / 8][4],
                                           const float (&factor)[M][2], Number* tile,
                                           Number* matrix, int rows) {
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int j = 0; j < D / 8; j++) {
        const bool any = factor[i][half] != 0;
        const float x = any ? c[i][j][2 * half] * factor[i][half] : 0;
        const float y = any ? c[i][j][2 * half + 1] * factor[i][half] : 0;
        const int where = place<D>(16 * i + 8 * half + lane_row(), j) + lane_column();
        *(unsigned*)(tile + where) = pack<Number>(x, y);
      }
  __syncwarp();
  for (int i = threadIdx.x % 32; i < 16 * M * D / 8; i += 32) {
    const int row = i / (D / 8), chunk = i % (D / 8);
    if (row >= rows) break;
    *(uint4*)(matrix + row * D + chunk * 8) =
        *(const uint4*)(tile + place<D>(row, chunk));
  }
}

// The largest number, or the sum, of the 4 lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// Makes scores -inf where a query may not see a key (attention.cuh). They are those of
// the 16 M queries from `t`, the 8 N keys from `start`.
template <int M, int N>
__device__ __forceinline__ void hide_keys(float (&s)[M][N][4], int t, int start, int S,
                                          int offset, const bool* mask) {
  if (start + 8 * N > min(S, t + offset + 1)) {  // the first query does not see all
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = t + 16 * i + 8 * half + lane_row();
        const int seen = min(S, row + offset + 1) - start - lane_column();
#pragma unroll
        for (int n = 0; n < N * 2; n++)
          if (n / 2 * 8 + n % 2 >= seen) s[i][n / 2][2 * half + n % 2] = -INFINITE;
      }
  }
  if (mask != nullptr) {
#pragma unroll
    for (int n = 0; n < N * 2; n++) {
      const int key = start + n / 2 * 8 + lane_column() + n % 2;
      if (key >= S || mask[key]) continue;
#pragma unroll
      for (int i = 0; i < M; i++)
        s[i][n / 2][n % 2] = s[i][n / 2][2 + n % 2] = -INFINITE;
    }
  }
}

// Makes transposed scores -inf where a query comes too early to see a key. They are
// those of the 16 M keys from `key`, the 8 N queries from `start`.
template <int M, int N>
__device__ __forceinline__ void hide_queries(float (&s)[M][N][4], int key, int start,
                                             int offset) {
  if (start + offset >= key + 16 * M - 1) return;  // the first query sees all
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = key + 16 * i + 8 * half + lane_row();
      const int early = row - offset - start - lane_column();
#pragma unroll
      for (int n = 0; n < N * 2; n++)
        if (n / 2 * 8 + n % 2 < early) s[i][n / 2][2 * half + n % 2] = -INFINITE;
    }
}

// Σ_d x[d] y[d] for a row, by the four lanes that share it; all of them get it.
template <int D, typename Number>
__device__ __forceinline__ float row_dot(const Number* x, const Number* y) {
  float sum = 0;
#pragma unroll
  for (int d = threadIdx.x % 4 * 8; d < D; d += 32) {
    __align__(16) Number a[8], b[8];
    *(uint4*)a = *(const uint4*)(x + d), *(uint4*)b = *(const uint4*)(y + d);
#pragma unroll
    for (int i = 0; i < 8; i++) sum += to_float(a[i]) * to_float(b[i]);
  }
  return row_sum(sum);
}

// log Σ e^score as a power of two, 2^(score - this) = e^(score - lse); infinite for
// rows that see nothing, whose weights then are zeros.
__device__ __forceinline__ float lse_2(float lse) {
  return lse == -INFINITE ? INFINITE : lse * LOG2_E;
}
