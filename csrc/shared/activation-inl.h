// The activation of every convolution, and its derivative.
#if defined(FASTINTERP_ACTIVATION_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_ACTIVATION_INL_H
#undef FASTINTERP_ACTIVATION_INL_H
#else
#define FASTINTERP_ACTIVATION_INL_H
#endif

#include <cmath>
#include <cstdint>

#include "activation.h"
#include "isa_region.h"
#include "simd-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

FASTINTERP_INLINE float activate(Activation activation, float z) {
  return activation.is_tanh ? std::tanh(z) : z > 0 ? z : activation.slope * z;
}

// Derivative from the activation's value; for every piecewise-linear slope >= 0 value and z share their sign.
FASTINTERP_INLINE float derivative(Activation activation, float value) {
  return activation.is_tanh ? 1 - value * value : value > 0 ? 1.0f : activation.slope;
}

static void activate_all(Activation activation, float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = activate(activation, values[i]);
}

static void multiply_by_derivative(Activation activation, const float* values, float* gradient, int64_t count) {
  for (int64_t i = 0; i < count; ++i) gradient[i] *= derivative(activation, values[i]);
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
