// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>

namespace fastinterp {

// All problems of a call, B of them, of a layer of kernel K, width D and C channels.
struct CcpBatch {
  int64_t count;         // B
  const float* target;   // (B, C)
  const int64_t* begin;  // (B)
  const int64_t* end;    // (B)
  float* optimum;        // (B, K, D), zeroed
  bool* gates;           // (B, C)
  int64_t* iterations;   // (B)
  float* residual;       // (B)
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
