// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>

#include "../shared/adam.h"

namespace fastinterp {

// All problems of a call, B of them, with R rows in the receptive field.
struct AdamBatch {
  int64_t count;         // B
  const float* target;   // (B, out_channels of the last layer)
  const float* start;    // (B, R, in_channels of the first layer)
  const int64_t* begin;  // (B)
  const int64_t* end;    // (B)
  float* optimum;        // (B, R, in_channels of the first layer), zeroed
  bool* gates;           // (B, out_channels of the last layer), zeroed
  int64_t* evaluations;  // (B)
};

// One problem: the input rows [begin, end) of the receptive field that lie inside the sentence frame.
struct AdamProblem {
  const float* target;  // (out_channels of the last layer): the activations `a`
  int64_t begin;
  int64_t end;
  float* x;             // (R, in_stride of the first layer): start in, optimum out
  bool* gates;          // (out_channels of the last layer)
  int64_t evaluations;  // out: pre-activations of the last layer that were computed
};

}  // namespace fastinterp
