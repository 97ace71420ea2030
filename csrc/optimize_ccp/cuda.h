// The concave-convex procedure as its glue, cuda.cpp, calls it: device pointers, a stream, plain numbers.
#pragma once

#include <cstdint>

#include "settings.h"

namespace fastinterp::cuda {

// B problems of the first layer. What depends on the rows [begin, end) that exist is given for every possible edge, at
// index begin * (K - center) + end - center - 1 with center = (K - 1) / 2.
struct CcpProblems {
  const float* target;   // (B, C)
  const float* rows;     // (C, K, D)
  const float* bias;     // (C)
  const float* gram;     // (edges, C, C): products of the filters
  const double* norms;   // (edges, C): of the filters
  const int64_t* begin;  // (B)
  const int64_t* end;    // (B)
  CcpSettings settings;
  bool gated;  // ReLU; otherwise identity
  int channels;
  int kernel;
  int width;
  float* optimum;       // (B, K, D), zeroed
  bool* gates;          // (B, C)
  int64_t* iterations;  // (B)
  float* residual;      // (B)
};

// Shared memory of one problem in bytes.
int64_t ccp_bytes(int64_t channels, int64_t kernel, int64_t width);

void optimize_problems(const CcpProblems& problems, int64_t count, void* stream);

// The concave rest of B linearised problems of the first layer, those of box-inl.h; edges as above.
struct Boxes {
  const float* most;    // (B, C): 0 where a channel does not pull against X
  const float* gram;    // (edges, C, C)
  const double* norms;  // (edges, C)
  const int64_t* edge;  // (B)
  const float* reach;   // (B): how large X is
  double half;          // 1 / (2 lambda1)
  int channels;
  double* y;  // (B, C)
  double* z;  // (B, C)
};

void solve_boxes(const Boxes& boxes, int64_t count, void* stream);

}  // namespace fastinterp::cuda
