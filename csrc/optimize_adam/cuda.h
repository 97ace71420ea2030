// The kernels as their glue, cuda.cpp, calls them: device pointers, a stream, plain numbers.
#pragma once

#include <cstdint>

#include "../shared/adam.h"

namespace fastinterp::cuda {

// Fills numbers[t - 1] for every step t from 1 on.
struct AdamTable {
  AdamSettings settings;
  AdamNumbers* numbers;
};

// What every step reads of AdamSettings, in float32.
struct AdamWeights {
  float l2_weight;          // lambda1
  float similarity_weight;  // lambda2
  float beta1;
  float beta2;
};

// All steps of B problems of the first layer, with a piecewise-linear activation.
struct OneLayerProblems {
  const float* target;          // (B, C)
  const float* rows;            // (C, K, D)
  const double* squared_norms;  // (C, K): of each filter's slices
  const float* bias;            // (C)
  const float* start;           // (B, K, D)
  const int64_t* begin;         // (B)
  const int64_t* end;           // (B)
  const AdamNumbers* numbers;   // (steps)
  AdamWeights weights;
  float slope;  // of a closed gate
  int steps;
  int channels;
  int kernel;
  int width;
  float* optimum;        // (B, K, D), zeroed
  bool* gates;           // (B, C), zeroed
  int64_t* evaluations;  // (B)
};

// One Adam step of B problems whose gradient of a . a'(X) is `pull`; all (B, R, D), zero outside [begin, end).
struct DenseStep {
  const float* pull;
  const int64_t* begin;
  const int64_t* end;
  const AdamNumbers* numbers;  // of this step
  AdamWeights weights;
  int field_rows;  // R
  int width;
  float* x;
  float* first_sum;
  float* second_sum;
};

// Whether take_all_steps() can hold a problem of this size on chip.
bool fits_one_layer(int64_t channels, int64_t kernel, int64_t width);

void fill_adam_table(const AdamTable& table, void* stream);
void take_all_steps(const OneLayerProblems& problems, int64_t count, void* stream);
void take_dense_step(const DenseStep& step, int64_t count, void* stream);

}  // namespace fastinterp::cuda
