#include "packed_stack.h"

#define FASTINTERP_KERNEL "gemm.inl"
#include "for_each_isa.h"

namespace fastinterp {

const float* PackedStack::keep(FloatBuffer values) {
  floats_.push_back(std::move(values));
  return floats_.back().data();
}

void PackedStack::add(const ConvWeights& weights, Packing packing) {
  const int64_t C = weights.out_channels, K = weights.kernel, D = weights.in_channels;
  // The matrix product writes whole panels; an input that no product writes needs whole vectors only.
  const int64_t panel = FASTINTERP_DISPATCH(kPanel), lanes = FASTINTERP_DISPATCH(kLanes);
  const bool written_by_product = !layers_.empty() || packing.backward;
  const int64_t unit = written_by_product ? panel : lanes;
  ConvLayer layer{};
  layer.in_channels = D;
  layer.out_channels = C;
  layer.kernel = K;
  layer.in_stride = (D + unit - 1) / unit * unit;
  layer.out_stride = (C + panel - 1) / panel * panel;

  FloatBuffer bias(layer.out_stride);
  std::copy(weights.bias, weights.bias + C, bias.data());
  layer.bias = keep(std::move(bias));

  const int64_t span = layer.span();
  FloatBuffer rows(C * span);  // (C, K, in_stride), from torch's (C, D, K)
  for (int64_t c = 0; c < C; ++c)
    for (int64_t d = 0; d < D; ++d)
      for (int64_t k = 0; k < K; ++k) rows[c * span + k * layer.in_stride + d] = weights.weight[(c * D + d) * K + k];
  if (packing.forward) {
    FloatBuffer forward(FASTINTERP_DISPATCH(packed_size)(span, C));
    FASTINTERP_DISPATCH(pack_matrix)(span, C, rows.data(), 1, span, forward.data());
    layer.forward = keep(std::move(forward));
  }
  if (packing.backward) {
    FloatBuffer backward(FASTINTERP_DISPATCH(packed_size)(C, span));
    FASTINTERP_DISPATCH(pack_matrix)(C, span, rows.data(), span, 1, backward.data());
    layer.backward = keep(std::move(backward));
  }
  if (packing.rows) {
    norms_.push_back(std::make_unique<double[]>(C * K));
    double* norms = norms_.back().get();
    for (int64_t i = 0; i < C * K; ++i)
      for (int64_t d = 0; d < D; ++d)
        norms[i] += static_cast<double>(rows[i * layer.in_stride + d]) * rows[i * layer.in_stride + d];
    layer.norms = norms;
    layer.rows = keep(std::move(rows));
  }
  layers_.push_back(layer);
}

}  // namespace fastinterp
