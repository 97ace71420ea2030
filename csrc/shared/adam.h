// Adam (Kingma & Ba, 2015) as both processors compute it.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace fastinterp {

// How the objective of Eq. 7 is maximised: its two weights, and Adam's numbers.
struct AdamSettings {
  int64_t steps;
  float l2_weight;          // lambda1
  float similarity_weight;  // lambda2
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
};

// The numbers of one Adam step: x += rate * m / (sqrt(v) + floor) for moments kept as plain decaying sums, without the
// factors 1 - beta.
struct AdamNumbers {
  float rate;
  float floor;
};

// Of step number `step`, the first being 1.
FASTINTERP_HOST_DEVICE AdamNumbers adam_numbers(const AdamSettings& settings, double step) {
  const double first = (1 - settings.beta1) / (1 - std::pow(settings.beta1, step));
  const double second = std::sqrt((1 - settings.beta2) / (1 - std::pow(settings.beta2, step)));
  return {static_cast<float>(settings.learning_rate * first / second), static_cast<float>(settings.epsilon / second)};
}

}  // namespace fastinterp
