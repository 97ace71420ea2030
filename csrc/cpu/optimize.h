// What the input-optimisation kernels share with the operator that calls them.
#pragma once

#include <cstdint>
#include <vector>

#include "layers.h"

namespace fastinterp {

struct AdamSettings {
  float l2_weight;          // lambda1
  float similarity_weight;  // lambda2
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  int64_t steps;
};

// What bounds a layer's pre-activations in a stack, the same for every location of it.
struct LayerBounds {
  std::vector<float> lipschitz;  // (out_channels): how fast z can change with X
  std::vector<float> bend;       // (out_channels): with the activations of the first layer
  std::vector<float> norm;       // (out_channels): of the filter
  double frobenius = 0;          // of the whole layer, times sqrt(kernel)
};

// One problem: the input rows [begin, end) of the receptive field that lie inside the sentence frame.
struct Problem {
  const float* target;  // (out_channels of the last layer): the activations `a`
  int64_t begin;
  int64_t end;
  float* x;             // (receptive field, in_stride of the first layer): start in, optimum out
  bool* gates;          // (out_channels of the last layer)
  int64_t evaluations;  // out: channel pre-activations computed
};

}  // namespace fastinterp
