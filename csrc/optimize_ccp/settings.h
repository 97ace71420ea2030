// What both processors share of the concave-convex procedure.
#pragma once

#include <cstdint>

#include "../shared/host_device.h"

namespace fastinterp {

struct CcpSettings {
  int64_t max_iterations;
  double tolerance;          // of the residual
  double l2_weight;          // lambda1, more than 0
  double similarity_weight;  // lambda2
};

// What flipping the gate of a channel with activation a and pre-activation z is worth without the similarity term,
// ||filter|| being `norm`: +-a z + a^2 ||w||^2 / (4 lambda1).
FASTINTERP_HOST_DEVICE double flip_gain(double a, double z, bool open, double norm, double l2_weight) {
  return (open ? -a : a) * z + a * a * norm * norm / (4 * l2_weight);
}

}  // namespace fastinterp
