// What a kernel sees of the GPU: its block of threads. Kernels are written against this class alone, so that a C++
// compiler can run them too, thread by thread: tests/emulation has a Block of the same shape for that.
#pragma once

#include <cfloat>
#include <cmath>

#include "host_device.h"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#define FASTINTERP_DEVICE __device__ __forceinline__

namespace fastinterp {

class Block {
 public:
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ int lane() const { return thread() & 31; }
  __device__ int warp() const { return thread() >> 5; }
  __device__ int warps() const { return threads() >> 5; }
  __device__ int x() const { return static_cast<int>(blockIdx.x); }
  __device__ int y() const { return static_cast<int>(blockIdx.y); }
  __device__ int blocks() const { return static_cast<int>(gridDim.x); }

  // The block's shared memory, 16-byte aligned, as many bytes as the launch asked for.
  __device__ char* memory() const {
    extern __shared__ __align__(16) char memory_of_block[];
    return memory_of_block;
  }

  __device__ void sync() const { __syncthreads(); }
  __device__ void sync_warp() const { __syncwarp(); }
  __device__ float shuffle_xor(float value, int mask) const { return __shfl_xor_sync(0xffffffffu, value, mask); }
  __device__ uint32_t ballot(bool flag) const { return __ballot_sync(0xffffffffu, flag); }

  // Returns the old value.
  __device__ int add(int* address, int value) const { return atomicAdd(address, value); }
  // For values that are not negative, whose order is that of their bits.
  __device__ void raise(float* address, float value) const {
    atomicMax(reinterpret_cast<int*>(address), __float_as_int(value));
  }
};

FASTINTERP_DEVICE float fast_divide(float a, float b) { return __fdividef(a, b); }
FASTINTERP_DEVICE float fast_rsqrt(float value) { return rsqrtf(value); }
FASTINTERP_DEVICE int first_bit(uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }
FASTINTERP_DEVICE int count_bits(uint32_t bits) { return __popc(bits); }

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("fastinterp: ") + cudaGetErrorString(status));
}

// Of the current device.
inline int processors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kMostThreads, Kernel::kBlocksPerProcessor)
    entry(const typename Kernel::Arguments arguments) {
  const Block block;
  Kernel::run(block, arguments);
}

// Runs `Kernel::run` in a grid of x times y blocks on a stream.
template <class Kernel>
void launch(int64_t x, int64_t y, int64_t threads, int64_t shared_bytes, void* stream,
            const typename Kernel::Arguments& arguments) {
  if (x == 0 || y == 0) return;
  if (shared_bytes > 48 * 1024)  // more than every launch may have without asking
    check(cudaFuncSetAttribute(entry<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)));
  entry<Kernel><<<dim3(static_cast<unsigned>(x), static_cast<unsigned>(y)), static_cast<unsigned>(threads),
                  static_cast<size_t>(shared_bytes), static_cast<cudaStream_t>(stream)>>>(arguments);
  check(cudaGetLastError());
}

}  // namespace fastinterp

#else
#include "emulated_block.h"
#endif

namespace fastinterp {

FASTINTERP_DEVICE float warp_sum(const Block& block, float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += block.shuffle_xor(value, offset);
  return value;
}

FASTINTERP_DEVICE float warp_max(const Block& block, float value) {
  for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, block.shuffle_xor(value, offset));
  return value;
}

FASTINTERP_DEVICE float warp_min(const Block& block, float value) { return -warp_max(block, -value); }

template <int HALF, int FIRST, int COUNT>
FASTINTERP_DEVICE void trade_halves(const Block& block, float (&values)[COUNT], int offset) {
  if constexpr (HALF > 0) {
    const bool upper = (block.lane() & offset) != 0;
#pragma unroll
    for (int i = FIRST; i < FIRST + HALF; ++i) {
      const float kept = upper ? values[i + HALF] : values[i];
      const float sent = upper ? values[i] : values[i + HALF];
      values[i] = kept + block.shuffle_xor(sent, offset);
    }
    trade_halves<HALF / 2, FIRST>(block, values, offset / 2);
  }
}

// Writes the warp's sums of values FIRST to COUNT - 1 into `sums`. As many of them as a power of two, lanes trade
// halves of what they hold, which takes about one shuffle a value instead of five.
template <int FIRST, int COUNT>
FASTINTERP_DEVICE void warp_sums(const Block& block, float (&values)[COUNT], float* sums) {
  if constexpr (FIRST < COUNT) {
    constexpr int kLeft = COUNT - FIRST;
    constexpr int kPower = kLeft >= 32 ? 32 : kLeft >= 16 ? 16 : kLeft >= 8 ? 8 : kLeft >= 4 ? 4 : kLeft >= 2 ? 2 : 1;
    trade_halves<kPower / 2, FIRST>(block, values, 16);
    float total = values[FIRST];
#pragma unroll
    for (int offset = 16 / kPower; offset > 0; offset /= 2) total += block.shuffle_xor(total, offset);
    int index = FIRST;  // of the value whose sum this lane was left with
#pragma unroll
    for (int half = kPower / 2, offset = 16; half > 0; half /= 2, offset /= 2)
      if (block.lane() & offset) index += half;
    sums[index] = total;  // lanes of the same index hold the same
    warp_sums<FIRST + kPower>(block, values, sums);
  }
}

// Floats of shared memory that block_sums needs.
template <int COUNT>
FASTINTERP_HOST_DEVICE constexpr int block_sums_floats(int warps) {
  return 3 * warps * COUNT;
}

// The sums of COUNT values over the block, for every thread, in an order that never changes. `half` starts at 0 and is
// the block's own: calls alternate between the halves of a buffer, so that one block.sync() each is enough.
template <int COUNT>
FASTINTERP_DEVICE void block_sums(const Block& block, float (&values)[COUNT], float* shared, int& half) {
  const int warp = block.warp(), warps = block.warps();
  float* partials = shared + half * warps * COUNT;
  half ^= 1;
  warp_sums<0>(block, values, partials + warp * COUNT);
  block.sync();
  float* own = shared + (2 * warps + warp) * COUNT;
  for (int i = block.lane(); i < COUNT; i += 32) {
    float total = 0;
    for (int w = 0; w < warps; ++w) total += partials[w * COUNT + i];
    own[i] = total;
  }
  block.sync_warp();
#pragma unroll
  for (int i = 0; i < COUNT; ++i) values[i] = own[i];
  block.sync_warp();
}

// Writes the indices below `count` for which `wanted` holds into `list`, ascending, and how many they are into
// `*found`. Ends with a block.sync().
template <class Wanted>
FASTINTERP_DEVICE void list_where(const Block& block, int count, Wanted wanted, int* list, int* found) {
  if (block.warp() == 0) {
    const int lane = block.lane();
    int place = 0;
    for (int first = 0; first < count; first += 32) {
      const bool mine = first + lane < count && wanted(first + lane);
      const uint32_t bits = block.ballot(mine);
      if (mine) list[place + count_bits(bits & ((1u << lane) - 1))] = first + lane;
      place += count_bits(bits);
    }
    if (lane == 0) *found = place;
  }
  block.sync();
}

// Whether entry a, a value and its index, stands before entry b: higher value, then lower index.
template <class Value>
FASTINTERP_DEVICE bool ranks_before(Value value_a, int index_a, Value value_b, int index_b) {
  return value_a > value_b || (value_a == value_b && index_a < index_b);
}

// Moves the entry that ranks first, of one per thread, to place 0; an index below 0 is no entry. `THREADS` is the
// block's, a power of two. Begins and ends with a block.sync().
template <int THREADS, class Value>
FASTINTERP_DEVICE void find_first_ranked(const Block& block, Value* values, int* indices) {
  const int own = block.thread();
  block.sync();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    const int other = own + half;
    if (own < half && indices[other] >= 0 &&
        (indices[own] < 0 || ranks_before(values[other], indices[other], values[own], indices[own]))) {
      values[own] = values[other];
      indices[own] = indices[other];
    }
    block.sync();
  }
}

// Whether `flag` is set in any thread of the block, for every thread.
FASTINTERP_DEVICE bool block_any(const Block& block, bool flag, int* shared) {
  block.sync();
  if (block.thread() == 0) *shared = 0;
  block.sync();
  if (flag) block.add(shared, 1);
  block.sync();
  return *shared != 0;
}

FASTINTERP_DEVICE int clamp(int64_t value, int low, int high) {
  return value < low ? low : value > high ? high : static_cast<int>(value);
}

}  // namespace fastinterp
