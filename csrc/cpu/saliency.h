// What the saliency kernel shares with the operator that calls it.
#pragma once

#include <cstdint>

#include "layers.h"

namespace fastinterp {

struct Classifier {
  const ConvLayer* layers;
  int64_t count;
  Activation activation;
  int64_t length;             // L
  const float* class_weight;  // (classes, channels of the last layer)
  const float* class_bias;    // (classes)
  int64_t classes;
};

struct Explanation {
  float* scores;        // (L)
  float* class_scores;  // (classes)
  float* activations;   // (L, channels of the explained layer), or null
};

}  // namespace fastinterp
