// The weights of a ConvStack in the layout that the inner loops read, alive for one call of an operator.
#if defined(FASTINTERP_PACKED_STACK_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_PACKED_STACK_INL_H
#undef FASTINTERP_PACKED_STACK_INL_H
#else
#define FASTINTERP_PACKED_STACK_INL_H
#endif

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "float_buffer.h"
#include "gemm-inl.h"
#include "isa_region.h"
#include "packed_layer.h"
#include "simd-inl.h"
#include "stack.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// Which copies of a layer's weights an operator reads.
struct Packing {
  bool rows;
  bool forward;
  bool backward;
};

class PackedStack {
 public:
  void add(const ConvWeights& weights, Packing packing) {
    const int64_t C = weights.out_channels, K = weights.kernel, D = weights.in_channels;
    // The matrix product writes whole panels; an input that no product writes needs whole vectors only.
    const bool written_by_product = !layers_.empty() || packing.backward;
    PackedLayer layer{};
    layer.in_channels = D;
    layer.out_channels = C;
    layer.kernel = K;
    layer.in_stride = round_up(D, written_by_product ? kPanel : kLanes);
    layer.out_stride = round_up(C, kPanel);

    FloatBuffer bias(layer.out_stride);
    std::copy(weights.bias, weights.bias + C, bias.data());
    layer.bias = keep(std::move(bias));

    const int64_t span = layer.span();
    FloatBuffer rows(C * span);  // (C, K, in_stride), from torch's (C, D, K)
    for (int64_t c = 0; c < C; ++c)
      for (int64_t d = 0; d < D; ++d)
        for (int64_t k = 0; k < K; ++k) rows[c * span + k * layer.in_stride + d] = weights.weight[(c * D + d) * K + k];
    if (packing.forward) {
      FloatBuffer forward(packed_size(span, C));
      pack_matrix(span, C, rows.data(), 1, span, forward.data());
      layer.forward = keep(std::move(forward));
    }
    if (packing.backward) {
      FloatBuffer backward(packed_size(C, span));
      pack_matrix(C, span, rows.data(), span, 1, backward.data());
      layer.backward = keep(std::move(backward));
    }
    if (packing.rows) {
      squared_norms_.push_back(std::make_unique<double[]>(C * K));
      double* norms = squared_norms_.back().get();
      for (int64_t i = 0; i < C * K; ++i)
        for (int64_t d = 0; d < D; ++d)
          norms[i] += static_cast<double>(rows[i * layer.in_stride + d]) * rows[i * layer.in_stride + d];
      layer.squared_norms = norms;
      layer.rows = keep(std::move(rows));
    }
    layers_.push_back(layer);
  }

  bool empty() const { return layers_.empty(); }
  const PackedLayer* layers() const { return layers_.data(); }

 private:
  const float* keep(FloatBuffer values) {
    floats_.push_back(std::move(values));
    return floats_.back().data();
  }

  std::vector<PackedLayer> layers_;
  std::vector<FloatBuffer> floats_;
  std::vector<std::unique_ptr<double[]>> squared_norms_;
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
