// Products with a left matrix of which only the columns of open gates are kept, and from them the Gram matrix of the
// Jacobian without the Jacobian itself.
#if defined(FASTINTERP_CONTRAST_GRAM_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_CONTRAST_GRAM_INL_H
#undef FASTINTERP_CONTRAST_GRAM_INL_H
#else
#define FASTINTERP_CONTRAST_GRAM_INL_H
#endif

#include <ATen/Parallel.h>

#include <cstdint>

#include "../shared/float_buffer.h"
#include "../shared/gemm-inl.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// `multiply_tile` of gemm-inl.h where column j of `left` stands for row open[j] - offset of the panel.
template <int ROWS>
static void multiply_open_tile(int64_t rows, const float* left, int64_t left_stride, const float* panel,
                               const int32_t* open, int64_t count, int64_t offset, Vec (&sums)[kTileRows][2]) {
  if (rows < ROWS) {
    if constexpr (ROWS > 1) multiply_open_tile<ROWS - 1>(rows, left, left_stride, panel, open, count, offset, sums);
    return;
  }
  Vec low[ROWS], high[ROWS];
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; ++row) low[row] = high[row] = Vec{};
  for (int64_t j = 0; j < count; ++j) {
    const float* right = panel + (open[j] - offset) * kPanel;
    const Vec right_low = load(right), right_high = load(right + kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
      const Vec value = broadcast(left[row * left_stride + j]);
      low[row] += value * right_low;
      high[row] += value * right_high;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; ++row) {
    sums[row][0] = low[row];
    sums[row][1] = high[row];
  }
}

// out (rows, columns rounded up to kPanel) = left (rows, count) times rows open[j] - offset of a packed matrix of so
// much depth, or added to it.
static void multiply_open(int64_t rows, int64_t columns, int64_t depth, const float* left, int64_t left_stride,
                          const int32_t* open, int64_t count, int64_t offset, const float* packed, float* out,
                          int64_t out_stride, bool add) {
  Vec sums[kTileRows][2];
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t first = 0; first < columns; first += kPanel) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first_row = rows * tile / tiles, tile_rows = rows * (tile + 1) / tiles - first_row;
      multiply_open_tile<kTileRows>(tile_rows, left + first_row * left_stride, left_stride, packed + first * depth,
                                    open, count, offset, sums);
      for (int64_t row = 0; row < tile_rows; ++row) {
        float* target = out + (first_row + row) * out_stride + first;
        store(target, add ? load(target) + sums[row][0] : sums[row][0]);
        store(target + kLanes, add ? load(target + kLanes) + sums[row][1] : sums[row][1]);
      }
    }
  }
}

// The first layer's products W_k W_(k + lag)^T summed over k, for every lag, packed (kernel * out_stride, C): what two
// of its filters have in common that stand `lag` positions apart. That of lag 0 is halved.
class LagProducts {
 public:
  explicit LagProducts(const PackedLayer& layer)
      : packed_(packed_size(layer.kernel * layer.out_stride, layer.out_channels)) {
    const int64_t C = layer.out_channels, stride = layer.out_stride, span = layer.span();
    FloatBuffer products(layer.kernel * stride * stride);
    at::parallel_for(0, layer.kernel, 1, [&](int64_t first, int64_t last) {
      for (int64_t lag = first; lag < last; ++lag) {
        const int64_t depth = (layer.kernel - lag) * layer.in_stride;
        FloatBuffer right(packed_size(depth, C));
        pack_matrix(depth, C, layer.rows + lag * layer.in_stride, 1, span, right.data());
        float* product = products.data() + lag * stride * stride;
        multiply(C, C, depth, layer.rows, span, right.data(), nullptr, product, stride);
        for (int64_t i = 0; lag == 0 && i < stride * stride; ++i) product[i] *= 0.5f;
      }
    });
    pack_matrix(layer.kernel * stride, C, products.data(), stride, 1, packed_.data());
  }

  float* packed() { return packed_.data(); }

 private:
  FloatBuffer packed_;
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
