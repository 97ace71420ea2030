// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>
#include <vector>

namespace fastinterp {

// All problems of a call, B of them, with R rows in the receptive field, and what is usual in their layers.
struct ContrastBatch {
  int64_t count;                     // B
  const float* target;               // (B, C)
  const int64_t* begin;              // (B)
  const int64_t* end;                // (B)
  std::vector<const float*> slopes;  // of each layer below the last (C_l)
  const float* mean;                 // (C)
  const float* precision;            // (C, C)
  const float* factor;               // (C, C)
  float* optimum;                    // (B, R, D), zeroed
  float* distance;                   // (B)
};

}  // namespace fastinterp
