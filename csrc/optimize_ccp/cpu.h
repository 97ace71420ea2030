// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>

namespace fastinterp {

// All problems of a call, B of them, of a receptive field of R rows, width D, and a last layer of C channels.
struct CcpBatch {
  int64_t count;         // B
  const float* target;   // (B, C)
  const int64_t* begin;  // (B)
  const int64_t* end;    // (B)
  float* optimum;        // (B, R, D), zeroed
  bool* gates;           // (B, C)
  int64_t* iterations;   // (B)
  float* residual;       // (B)
};

// One problem: the input rows [begin, end) of the receptive field that lie inside the sentence frame.
struct CcpProblem {
  const float* target;  // (C): the activations `a`, or any other target
  int64_t begin;
  int64_t end;
  float* x;  // (R, in_stride): optimum out, in the rows [begin, end)
  bool* gates;
  int64_t iterations;  // out: how often the gates were taken anew
  float residual;      // out: ||gradient|| relative to that of a . a'(X); at kinks, the nearest summit's distance
};

}  // namespace fastinterp
