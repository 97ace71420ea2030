// What problems of the first layer with the same existing rows share: the products of the filters.
#if defined(FASTINTERP_FILTER_PRODUCTS_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_FILTER_PRODUCTS_INL_H
#undef FASTINTERP_FILTER_PRODUCTS_INL_H
#else
#define FASTINTERP_FILTER_PRODUCTS_INL_H
#endif

#include <cmath>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "../shared/float_buffer.h"
#include "../shared/gemm-inl.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// What moves z when a gate flips and X follows its optimum.
struct FilterProducts {
  const float* gram = nullptr;  // (units, stride): w_k . w_l over the rows that exist
  int64_t stride = 0;
  const double* norms = nullptr;  // (units): ||w_k||
};

// By the rows [begin, end) that exist.
class EdgeProducts {
 public:
  // `gated`: whether the products are wanted, not the norms alone.
  void add(const PackedLayer& layer, int64_t begin, int64_t end, bool gated) {
    const auto [found, missing] = edges_.try_emplace({begin, end});
    if (!missing) return;
    Edge& edge = found->second;
    const int64_t channels = layer.out_channels, depth = (end - begin) * layer.in_stride;
    for (int64_t k = 0; k < channels; ++k) {
      double squared = 0;
      for (int64_t row = begin; row < end; ++row) squared += layer.squared_norms[k * layer.kernel + row];
      edge.norms.push_back(std::sqrt(squared));
    }
    edge.products.norms = edge.norms.data();
    if (!gated) return;
    edge.gram = FloatBuffer(channels * layer.out_stride);
    FloatBuffer columns(packed_size(depth, channels));
    const float* rows = layer.rows + begin * layer.in_stride;
    pack_matrix(depth, channels, rows, 1, layer.span(), columns.data());
    multiply(channels, channels, depth, rows, layer.span(), columns.data(), nullptr, edge.gram.data(),
             layer.out_stride);
    edge.products.gram = edge.gram.data();
    edge.products.stride = layer.out_stride;
  }

  const FilterProducts& at(int64_t begin, int64_t end) const { return edges_.at({begin, end}).products; }

 private:
  struct Edge {
    std::vector<double> norms;
    FloatBuffer gram;
    FilterProducts products;
  };
  std::map<std::pair<int64_t, int64_t>, Edge> edges_;
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
