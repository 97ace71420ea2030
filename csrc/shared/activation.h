// The activation of every convolution, as plain numbers.
#pragma once

namespace fastinterp {

// Piecewise-linear ones are z > 0 ? z : slope * z.
struct Activation {
  bool is_tanh;
  float slope;
};

}  // namespace fastinterp
