// What the CCP kernel shares with the operator that calls it.
#pragma once

#include <cstdint>

#include "layers.h"

namespace fastinterp {

struct CcpSettings {
  double l2_weight;          // lambda1, more than 0
  double similarity_weight;  // lambda2
  double tolerance;          // of the residual
  int64_t max_iterations;
};

// One problem: the input rows [begin, end) of the receptive field that lie inside the sentence frame.
struct CcpProblem {
  const float* target;  // (out_channels): the activations `a`, none negative where the activation is ReLU
  const float* gram;    // (out_channels, out_stride): w_k . w_l over rows [begin, end); unused without gates
  const double* norms;  // (out_channels): ||w_k|| over rows [begin, end)
  int64_t begin;
  int64_t end;
  float* x;  // (kernel, in_stride), zeroed: optimum out
  bool* gates;
  int64_t iterations;  // out: how often the gates were taken anew
  float residual;      // out: ||gradient|| / ||W^T (a * gate)||
};

}  // namespace fastinterp
