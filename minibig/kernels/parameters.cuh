// All parameters of a model in one launch: a table says where each of them lies.
//
// A block works on CHUNK numbers of one parameter. Which, it finds by halving: `first`
// counts the chunks of all parameters before.
#pragma once

constexpr int CHUNK = 4096;

template <typename Entry>
__device__ __forceinline__ const Entry& entry_of_block(const Entry* table, int count) {
  int low = 0, high = count;  // the last entry that begins here or before is among them
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (table[middle].first <= blockIdx.x) low = middle; else high = middle;
  }
  return table[low];
}

// Calls function(i) for the thread's numbers i of the block's chunk.
template <typename Entry, typename Function>
__device__ __forceinline__ void for_chunk(const Entry& entry, Function function) {
  const long long begin = (blockIdx.x - entry.first) * CHUNK;
  const long long end = min(begin + CHUNK, entry.size);
  for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) function(i);
}
