// The weights of a ConvStack in the layout the kernels read, alive for one call of an operator.
#pragma once

#include <memory>
#include <vector>

#include "../stack.h"
#include "buffer.h"
#include "layers.h"

namespace fastinterp {

// Which copies of a layer's weights a kernel reads.
struct Packing {
  bool rows;
  bool forward;
  bool backward;
};

class PackedStack {
 public:
  void add(const ConvWeights& weights, Packing packing);

  const ConvLayer* layers() const { return layers_.data(); }

 private:
  const float* keep(FloatBuffer values);

  std::vector<ConvLayer> layers_;
  std::vector<FloatBuffer> floats_;
  std::vector<std::unique_ptr<double[]>> norms_;
};

}  // namespace fastinterp
