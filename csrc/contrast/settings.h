// How the input that stands out is found.
#pragma once

#include <cstdint>

namespace fastinterp {

struct ContrastSettings {
  int64_t steps;   // Gauss-Newton steps at most
  double damping;  // rho, in units of the mean diagonal of P S G
};

constexpr int64_t kShortestStep = 6;  // halvings, by kShorter, before a step is given up
constexpr double kShorter = 0.4;
constexpr float kScales[] = {0.25f, 0.5f, 1.0f, 2.0f, 4.0f};  // of the start, in units of the root of its entries

}  // namespace fastinterp
