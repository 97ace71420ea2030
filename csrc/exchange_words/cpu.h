// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>

namespace fastinterp {

// All problems of a call, B of them, with R rows in the receptive field and M candidates for each.
struct ExchangeBatch {
  int64_t count;              // B
  int64_t words;              // U
  int64_t candidate_count;    // M
  int64_t rounds;             // at most
  float tie;                  // cosines as near as this are the same
  const float* target;        // (B, C)
  const int64_t* begin;       // (B)
  const int64_t* end;         // (B)
  const float* vectors;       // (U, D)
  const int64_t* candidates;  // (B, R, M), rows of `vectors`; -1 in rows that stay empty
  const float* mean;          // (C)
  const float* factor;        // (C, C)
  int64_t* chosen;            // (B, R), zeroed
  float* reached;             // (B, C)
};

}  // namespace fastinterp
