// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>

namespace fastinterp {

struct Words {
  const float* vectors;        // (count, width)
  const float* inverse_norms;  // (count); a word whose entry is 0 is never returned
  int64_t count;
  int64_t width;
};

// The vocabulary in 8 bits: word w / ||w|| is scale * code up to an error whose norm is known.
struct WordCodes {
  int8_t* codes;    // (count, code_width)
  int32_t* offset;  // what a product with the queries' unsigned codes starts from
  float* scale;
  float* error;       // ||word - scale * code||, rounding included; -infinity for a word that is never returned
  float longest = 1;  // no ||scale * code|| is above it
};

// The k best words of each query so far, best first.
struct BestWords {
  float* cosines;    // (queries, k)
  int64_t* indices;  // (queries, k)
  int64_t k;
};

}  // namespace fastinterp
