// The CUDA optimiser's kernels as dispatch.cpp calls them: device pointers, a stream, plain numbers.
#pragma once

#include <cstdint>

#include "../gating.h"

namespace fastinterp::cuda {

// numbers[t] for steps 1..steps at index t - 1.
struct AdamTable {
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  int64_t steps;
  AdamNumbers* numbers;
};

// The objective's weights and Adam's decays.
struct AdamWeights {
  float l2_weight;          // lambda1
  float similarity_weight;  // lambda2
  float beta1;
  float beta2;
};

// All steps of B problems of the first layer, with a piecewise-linear activation.
struct CertifiedProblems {
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
  int field;
  int width;
  float* x;
  float* first_sum;
  float* second_sum;
};

// Whether `certified_adam` can hold a problem of this size on chip.
bool fits_certified(int64_t channels, int64_t kernel, int64_t width);

void adam_table(const AdamTable& table, void* stream);
void certified_adam(const CertifiedProblems& problems, int64_t count, void* stream);
void dense_adam_step(const DenseStep& step, int64_t count, void* stream);

}  // namespace fastinterp::cuda
