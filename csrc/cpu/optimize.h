// What the input-optimisation kernels share with the operator that calls them.
#pragma once

#include <cstdint>

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
