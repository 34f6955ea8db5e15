// What both passes on Hopper share: tiles that are fetched, multiplied and handed back.
//
// A tile of ROWS rows of D numbers lies in blocks of 64 columns (`wgmma.cuh`); where D
// does not fill the last one, the copy engine writes zeros. So the products of numbers
// side by side stop at D, and those of rows make a few columns of zeros more, which are
// not stored. The first two warpgroups of a block of 384 threads compute, each for 64
// rows of a tile of 128; the third one fetches.
#pragma once
#include "mma.cuh"
#include "wgmma.cuh"
#include "tma.cuh"

#define NOT_A_NUMBER __int_as_float(0x7fffffff)

constexpr int COMPUTING = 256;  // threads
constexpr int EIGHT = 8;        // numbers a step of a descriptor's address, 16 bytes
template <int D>
constexpr int PADDED = (D + BLOCK - 1) / BLOCK * BLOCK;  // columns of a tile

// The number of the thread's warpgroup. All lanes have it from one, so the compiler knows
// that they agree, and computes addresses made of it once a warp.
__device__ __forceinline__ int own_group() {
  return __shfl_sync(0xffffffff, (int)threadIdx.x / 128, 0);
}

// Begins to fetch ROWS rows of one head of the block's sequence, block by block.
template <int ROWS, int D, typename Number>
__device__ __forceinline__ void fetch(Number* tile, const TensorMap& map, int row,
                                      int head, Barrier* full) {
#pragma unroll
  for (int x = 0; x < D; x += BLOCK)
    copy_box(tile + x * ROWS, map, x, row, head, blockIdx.z, full);
}

// A lane of each warp says that the warp has no more need of a tile.
__device__ __forceinline__ void hand_back(Barrier* free) {
  __syncwarp();  // the other lanes have read, too
  if (threadIdx.x % 32 == 0) barrier_arrive(free);
}

// The warp's 16 rows of a tile of 128 rows, in registers.
template <int D, typename Number>
__device__ __forceinline__ void load_own_rows(unsigned (&a)[D / 16][4],
                                              const Number* tile) {
#pragma unroll
  for (int k = 0; k < D / 16; k++)  // 4 to a block of 64 columns
    ldmatrix_x4(a[k], tile + (k / 4 * 128 + warp_in_block() * 16) * BLOCK +
                          lane_place<BLOCK>(k % 4));
}

// Begins c = A Bᵀ: A in registers, B all of a tile of 8 N rows.
template <int D, int N, typename Number>
__device__ __forceinline__ void begin_product_transposed(float (&c)[N][4],
                                                         const unsigned (&a)[D / 16][4],
                                                         const Number* b) {
  const unsigned long long at_b = descriptor_of(b);
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    const unsigned long long from_b =
        at_b + (k / 4 * BLOCK * 8 * N + k % 4 * 16) / EIGHT;
    if (k == 0)
      wgmma_transposed_first<Number, 8 * N>(c, a[k], from_b);
    else
      wgmma_transposed<Number, 8 * N>(c, a[k], from_b);
  }
  wgmma_commit();
}

// Begins c = A Bᵀ: 64 rows from `a` on in a tile of 128 rows, all of a tile of 8 N.
template <int D, int N, typename Number>
__device__ __forceinline__ void begin_product_transposed(float (&c)[N][4],
                                                         const Number* a,
                                                         const Number* b) {
  const unsigned long long at_a = descriptor_of(a), at_b = descriptor_of(b);
#pragma unroll
  for (int i = 0; i < D; i += 16) {  // 16 columns of a block are 32 bytes of its rows
    const int block = i / BLOCK * BLOCK, within = i % BLOCK;
    const unsigned long long from_a = at_a + (block * 128 + within) / EIGHT,
                             from_b = at_b + (block * 8 * N + within) / EIGHT;
    if (i == 0)
      wgmma_transposed_first<Number, 8 * N>(c, from_a, from_b);
    else
      wgmma_transposed<Number, 8 * N>(c, from_a, from_b);
  }
  wgmma_commit();
}

// Begins c += A B: A in registers, B a tile of 16 K rows.
template <int D, int K, typename Number>
__device__ __forceinline__ void begin_product(float (&c)[PADDED<D> / 8][4],
                                              const unsigned (&a)[K][4],
                                              const Number* b) {
  const unsigned long long at_b = descriptor_of(b, 16 * K * BLOCK * 2);
#pragma unroll
  for (int i = 0; i < K; i++)
    wgmma<Number, PADDED<D>>(c, a[i], at_b + i * 16 * BLOCK / EIGHT);
  wgmma_commit();
}

// Writes a warp's 16 rows, `rows` of them at most and `step` numbers apart, times a
// factor; a factor of zero makes zeros of whatever a row holds.
template <int D, typename Number>
__device__ __forceinline__ void store_own_rows(const float (&c)[PADDED<D> / 8][4],
                                               const float (&factor)[2], Number* matrix,
                                               int rows, int step) {
#pragma unroll
  for (int half = 0; half < 2; half++) {  // rows g and g + 8
    const int y = 8 * half + lane_row();
    if (y >= rows) continue;
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      const float x = c[j][2 * half] * factor[half];
      const float z = c[j][2 * half + 1] * factor[half];
      *(unsigned*)(matrix + (long long)y * step + 8 * j + lane_column()) =
          factor[half] != 0 ? pack<Number>(x, z) : 0;
    }
  }
}
