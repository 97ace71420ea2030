// A convolution repacked for the CPU's inner loops. Plain data only: code of every instruction set reads it.
#pragma once

#include <cstdint>

namespace fastinterp {

struct PackedLayer {
  int64_t in_channels;
  int64_t out_channels;
  int64_t kernel;
  int64_t in_stride;            // floats between two positions of the layer's input
  int64_t out_stride;           // floats between two positions of its output
  const float* rows;            // (out_channels, kernel, in_stride): one filter after another
  const double* squared_norms;  // (out_channels, kernel): of each filter's slices
  const float* forward;         // packed (kernel * in_stride, out_channels)
  const float* backward;        // packed (out_channels, kernel * in_stride)
  const float* bias;            // (out_stride), zeros beyond out_channels

  int64_t span() const { return kernel * in_stride; }        // floats that one output reads
  int64_t left_padding() const { return (kernel - 1) / 2; }  // 'same': an even kernel pads one more on the right
};

// How many input positions the last of `count` layers sees; it shrinks by kernel - 1 with each layer, down to 1.
inline int64_t receptive_field(const PackedLayer* layers, int64_t count) {
  int64_t positions = 1;
  for (int64_t l = 0; l < count; ++l) positions += layers[l].kernel - 1;
  return positions;
}

}  // namespace fastinterp
