// A stack of 1-D convolutions as every operator receives it, in plain pointers.
#pragma once

#include <cstdint>
#include <vector>

#include "activation.h"

namespace fastinterp {

struct ConvWeights {
  const float* weight;  // (out_channels, in_channels, kernel), contiguous
  const float* bias;    // (out_channels)
  int64_t out_channels;
  int64_t in_channels;
  int64_t kernel;
};

struct ConvStack {
  std::vector<ConvWeights> layers;
  Activation activation;

  int64_t size() const { return static_cast<int64_t>(layers.size()); }

  // Where the location itself stands in the receptive field of the last layer.
  int64_t center() const {
    int64_t left = 0;
    for (const ConvWeights& layer : layers) left += (layer.kernel - 1) / 2;
    return left;
  }

  // How many input positions a location of the last layer sees (stride and dilation 1).
  int64_t receptive_field() const {
    int64_t positions = 1;
    for (const ConvWeights& layer : layers) positions += layer.kernel - 1;
    return positions;
  }
};

}  // namespace fastinterp
