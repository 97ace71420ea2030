// How fast the pre-activations of a stack can change, from the norms of its layers (docs/certificate.md).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "../shared/packed_layer.h"

namespace fastinterp {

// What bounds a layer's pre-activations in a stack, the same for every location of it.
struct LayerBounds {
  std::vector<float> norm;                // (out_channels): of the filter
  std::vector<float> lipschitz_of_input;  // (out_channels): how fast z can change with X
  std::vector<float> lipschitz_of_first;  // (out_channels): with the activations of the first layer
  double frobenius = 0;                   // of the whole layer, times sqrt(kernel)
};

// `spectral_norms` are the layers' largest singular values, or a little more.
inline std::vector<LayerBounds> bound_layers(const PackedLayer* layers, const std::vector<double>& spectral_norms) {
  std::vector<LayerBounds> bounds(spectral_norms.size());
  double above_input = 1, above_first = 1;
  for (size_t l = 0; l < bounds.size(); ++l) {
    const PackedLayer& layer = layers[l];
    double total = 0;
    for (int64_t c = 0; c < layer.out_channels; ++c) {
      double squared = 0;
      for (int64_t k = 0; k < layer.kernel; ++k) squared += layer.squared_norms[c * layer.kernel + k];
      total += squared;
      const double norm = std::sqrt(squared) * (1 + 1e-5);
      bounds[l].norm.push_back(static_cast<float>(norm));
      bounds[l].lipschitz_of_input.push_back(static_cast<float>(norm * above_input));
      bounds[l].lipschitz_of_first.push_back(static_cast<float>(norm * above_first));
    }
    // Every input is read by `kernel` locations at most.
    const double overlap = std::sqrt(static_cast<double>(layer.kernel)), whole = spectral_norms[l] * overlap;
    bounds[l].frobenius = std::sqrt(total) * overlap;
    above_input *= whole;
    if (l > 0) above_first *= whole;
  }
  return bounds;
}

}  // namespace fastinterp
