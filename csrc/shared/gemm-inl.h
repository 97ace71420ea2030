// Matrix product on packed panels: the one dense engine under saliency, deep-layer optimisation and top-k.
// Every output element is one running sum over the depth, so a row's result does not depend on how many rows
// are computed with it: batching and threading cannot change a bit of it.
#if defined(FASTINTERP_GEMM_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_GEMM_INL_H
#undef FASTINTERP_GEMM_INL_H
#else
#define FASTINTERP_GEMM_INL_H
#endif

#include <cstdint>

#include "isa_region.h"
#include "simd-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

constexpr int64_t kPanel = 2 * kLanes;                                  // output columns computed together
constexpr int64_t kTileRows = kLanes == 16 ? 12 : kLanes == 8 ? 6 : 4;  // rows x 2 vectors fill the registers

// Floats that `pack_matrix` needs for a (depth, columns) matrix.
static inline int64_t packed_size(int64_t depth, int64_t columns) { return depth * round_up(columns, kPanel); }

// Packs the right-hand matrix: panel by panel, depth-major inside a panel, missing columns as zeros. Element
// (d, c) stands at data[d * depth_stride + c * column_stride].
static void pack_matrix(int64_t depth, int64_t columns, const float* data, int64_t depth_stride, int64_t column_stride,
                        float* packed) {
  for (int64_t first = 0; first < columns; first += kPanel)
    for (int64_t d = 0; d < depth; ++d)
      for (int64_t lane = 0; lane < kPanel; ++lane)
        *packed++ = first + lane < columns ? data[d * depth_stride + (first + lane) * column_stride] : 0.0f;
}

// One tile: ROWS rows of `left` (row stride in floats; rows may overlap, which makes a convolution of it) times
// one panel. Leaves the sums in `sums`.
template <int ROWS>
FASTINTERP_INLINE void multiply_tile(const float* left, int64_t left_stride, const float* panel, int64_t depth,
                                     Vec (&sums)[kTileRows][2]) {
  Vec low[ROWS], high[ROWS];
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; ++row) low[row] = high[row] = Vec{};
  for (int64_t d = 0; d < depth; ++d) {
    const Vec panel_low = load(panel + d * kPanel);
    const Vec panel_high = load(panel + d * kPanel + kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
      const Vec value = broadcast(left[row * left_stride + d]);
      low[row] += value * panel_low;
      high[row] += value * panel_high;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; ++row) {
    sums[row][0] = low[row];
    sums[row][1] = high[row];
  }
}

template <int ROWS>
static void multiply_tile_of(int64_t rows, const float* left, int64_t left_stride, const float* panel, int64_t depth,
                             Vec (&sums)[kTileRows][2]) {
  if (rows == ROWS) {
    multiply_tile<ROWS>(left, left_stride, panel, depth, sums);
  } else if constexpr (ROWS > 1) {
    multiply_tile_of<ROWS - 1>(rows, left, left_stride, panel, depth, sums);
  }
}

// out (rows, columns rounded up to kPanel) = left (rows, depth) * packed + bias. `bias` is null or holds the
// rounded-up number of columns. A panel, which may come from far away, serves every row before the next one.
static void multiply(int64_t rows, int64_t columns, int64_t depth, const float* left, int64_t left_stride,
                     const float* packed, const float* bias, float* out, int64_t out_stride) {
  Vec sums[kTileRows][2];
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t first = 0; first < columns; first += kPanel) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first_row = rows * tile / tiles, tile_rows = rows * (tile + 1) / tiles - first_row;
      multiply_tile_of<kTileRows>(tile_rows, left + first_row * left_stride, left_stride, packed + first * depth, depth,
                                  sums);
      for (int64_t row = 0; row < tile_rows; ++row) {
        float* target = out + (first_row + row) * out_stride + first;
        store(target, bias == nullptr ? sums[row][0] : sums[row][0] + load(bias + first));
        store(target + kLanes, bias == nullptr ? sums[row][1] : sums[row][1] + load(bias + first + kLanes));
      }
    }
  }
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
