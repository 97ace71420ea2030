// A stack of convolutions repacked for the kernels. Plain data only: this header is read both by code compiled for
// the build machine and by code compiled for each instruction set.
#pragma once

#include <cstdint>

namespace fastinterp {

// Activation of every convolution. Piecewise linear ones are z > 0 ? z : slope * z.
struct Activation {
  bool is_tanh;
  float slope;
};

struct ConvLayer {
  int64_t in_channels;
  int64_t out_channels;
  int64_t kernel;
  int64_t in_stride;      // floats between two positions of the layer's input
  int64_t out_stride;     // floats between two positions of its output
  const float* rows;      // (out_channels, kernel, in_stride): one filter after another
  const double* norms;    // (out_channels, kernel): squared norm of each filter's slice
  const float* forward;   // packed (kernel * in_stride, out_channels)
  const float* backward;  // packed (out_channels, kernel * in_stride)
  const float* bias;      // (out_stride), zeros beyond out_channels

  int64_t span() const { return kernel * in_stride; }        // floats that one output reads
  int64_t left_padding() const { return (kernel - 1) / 2; }  // 'same': an even kernel pads one more on the right
};

}  // namespace fastinterp
