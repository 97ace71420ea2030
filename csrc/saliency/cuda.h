// The saliency kernels as their glue, cuda.cpp, calls them: device pointers, a stream, plain numbers.
#pragma once

#include <cstdint>

namespace fastinterp::cuda {

constexpr int kMostLayers = 16;

struct GpuLayer {
  const float* forward;   // (K * C_in, C_out)
  const float* backward;  // (K * C_out, C_in)
  const float* bias;      // (C_out)
  float* padding;         // (L, C_out): activations of the sentence that is all padding
  int64_t values;         // where the layer's activations stand in a block's scratch
  int in_channels;
  int out_channels;
  int kernel;
};

struct Sentences {
  const float* embedded;   // (B, T, D)
  const int64_t* lengths;  // (B)
  int64_t count;
  int positions;  // T
  int frame;      // L
  GpuLayer layers[kMostLayers];
  int layer_count;
  int explained;
  bool is_tanh;
  float slope;
  const float* class_weight;  // (classes, C of the last layer)
  const float* class_bias;    // (classes)
  int classes;
  int* padding_maximum;    // (L, C of the last layer): the first location from l on that has the highest activation
  float* scratch;          // (blocks, scratch_floats)
  int64_t scratch_floats;  // activations of every layer, then two gradients
  int64_t gradient;        // where the first gradient stands in it
  int64_t gradient_floats;
  float* scores;        // (B, L)
  float* class_scores;  // (B, classes)
  float* activations;   // (B, L, C of the explained layer), or null
};

// How many blocks work at once on the current device; each needs its own scratch.
int64_t saliency_blocks(int64_t sentences);

// Fills `padding` and `padding_maximum`, then explains every sentence.
void explain_sentences(const Sentences& sentences, int64_t blocks, void* stream);

}  // namespace fastinterp::cuda
