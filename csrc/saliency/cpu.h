// What the CPU operator hands to its inner loops: plain pointers and numbers.
#pragma once

#include <cstdint>

#include "../shared/activation.h"
#include "../shared/packed_layer.h"

namespace fastinterp {

// The network that classifies a sentence, and which of its layers is explained.
struct TextNetwork {
  const PackedLayer* layers;  // set where they are packed
  int64_t count;
  int64_t explained;  // index of a layer
  Activation activation;
  int64_t length;             // L, the sentence frame
  const float* class_weight;  // (classes, channels of the last layer)
  const float* class_bias;    // (classes)
  int64_t classes;
};

// All sentences of a call, B of them.
struct SaliencyBatch {
  int64_t count;           // B
  int64_t positions;       // T
  const float* embedded;   // (B, T, channels of the first layer)
  const int64_t* lengths;  // (B): tokens, what stands beyond is not read
  float* scores;           // (B, L)
  float* class_scores;     // (B, classes)
  float* activations;      // (B, L, channels of the explained layer), or null
};

// The results of one sentence.
struct Explanation {
  float* scores;        // (L)
  float* class_scores;  // (classes)
  float* activations;   // (L, channels of the explained layer), or null
};

}  // namespace fastinterp
