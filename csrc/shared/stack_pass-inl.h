// One problem's way through a stack: its pre-activations from X, and back from the target, or from a single unit, to
// the gradient with respect to X.
#if defined(FASTINTERP_STACK_PASS_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_STACK_PASS_INL_H
#undef FASTINTERP_STACK_PASS_INL_H
#else
#define FASTINTERP_STACK_PASS_INL_H
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "activation-inl.h"
#include "gemm-inl.h"
#include "isa_region.h"
#include "packed_layer.h"
#include "simd-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// One layer at one problem; every array is (outputs, out_stride).
struct PassLayer {
  int64_t outputs;
  int64_t first;  // of the outputs that exist; the others see past the sentence frame
  int64_t end;
  float* z;
  float* gate;      // derivative of the activation at z; 0 where the location does not exist
  float* arriving;  // gradient of a . a'(X) with respect to the layer's activations
};

class StackPass {
 public:
  static int64_t scratch_floats(const PackedLayer* layers, int64_t count) {
    int64_t rows = receptive_field(layers, count), total = 0, widest = 0;
    for (int64_t l = 0; l < count; ++l) {
      rows -= layers[l].kernel - 1;
      total += 3 * rows * layers[l].out_stride;
      widest = std::max({widest, rows * layers[l].out_stride, rows * layers[l].span()});
    }
    return total + 3 * widest;
  }

  StackPass() = default;
  StackPass(const PackedLayer* layers, int64_t count, int64_t begin, int64_t end, float* scratch)
      : layers_(layers), count_(count) {
    std::memset(scratch, 0, sizeof(float) * scratch_floats(layers, count));
    int64_t rows = receptive_field(layers, count), offset = 0, widest = 0;
    const auto take = [&scratch](int64_t floats) { return std::exchange(scratch, scratch + floats); };
    for (int64_t l = 0; l < count; ++l) {
      rows -= layers[l].kernel - 1;
      offset += layers[l].left_padding();
      const int64_t floats = rows * layers[l].out_stride;
      places_.push_back({rows, std::clamp<int64_t>(begin - offset, 0, rows), std::clamp<int64_t>(end - offset, 0, rows),
                         take(floats), take(floats), take(floats)});
      widest = std::max({widest, floats, rows * layers[l].span()});
    }
    values_ = take(widest);
    columns_ = take(widest);
    unit_values_ = take(widest);
  }

  const PassLayer& place(int64_t l) const { return places_[l]; }
  // Pre-activations at the location itself.
  const float* last_z() const { return places_.back().z; }

  // Pre-activations and gates of every layer at X, (R, in_stride) with zeros in the rows that do not exist.
  void forward(const float* x, Activation activation) {
    const float* input = x;
    for (int64_t l = 0; l < count_; ++l) {
      const PackedLayer& layer = layers_[l];
      const PassLayer& place = places_[l];
      multiply(place.outputs, layer.out_channels, layer.span(), input, layer.in_stride, layer.forward, layer.bias,
               place.z, layer.out_stride);
      // Outside the sentence frame a convolution sees zeros, not the activation of a bias: values_ is 0 there.
      std::memset(values_, 0, sizeof(float) * place.outputs * layer.out_stride);
      for (int64_t i = place.first * layer.out_stride; i < place.end * layer.out_stride; ++i) {
        values_[i] = activate(activation, place.z[i]);
        place.gate[i] = derivative(activation, values_[i]);
      }
      input = values_;
    }
  }

  // Every gate that exists as if its pre-activation were positive.
  void open_all() {
    for (int64_t l = 0; l < count_; ++l)
      for (int64_t i = places_[l].first * layers_[l].out_stride; i < places_[l].end * layers_[l].out_stride; ++i)
        places_[l].gate[i] = 1;
  }

  // The gradient of a . a'(X) for the gates as they are, (R, in_stride).
  void backward(const float* target, float* gradient) {
    std::copy_n(target, layers_[count_ - 1].out_channels, places_[count_ - 1].arriving);
    for (int64_t l = count_ - 1; l >= 0; --l) {
      const PassLayer& place = places_[l];
      for (int64_t i = 0; i < place.outputs * layers_[l].out_stride; ++i)
        values_[i] = place.arriving[i] * place.gate[i];
      const int64_t inputs = place.outputs + layers_[l].kernel - 1;
      step_back(l, place.outputs, inputs, values_, l == 0 ? gradient : places_[l - 1].arriving);
    }
  }

  // The gradient of the pre-activation of channel c at output p of layer l, for the gates below it as they are,
  // (R, in_stride).
  void unit_gradient(int64_t l, int64_t p, int64_t c, float* gradient) {
    std::memset(gradient, 0, sizeof(float) * receptive_field(layers_, count_) * layers_[0].in_stride);
    int64_t rows = layers_[l].kernel;  // those from p on are reached
    float* reached = l == 0 ? gradient + p * layers_[0].in_stride : unit_values_;
    std::copy_n(layers_[l].rows + c * layers_[l].span(), layers_[l].span(), reached);
    for (int64_t below = l - 1; below >= 0; --below) {
      const PackedLayer& layer = layers_[below];
      const float* gates = places_[below].gate + p * layer.out_stride;
      for (int64_t i = 0; i < rows * layer.out_stride; ++i) values_[i] = unit_values_[i] * gates[i];
      const int64_t inputs = rows + layer.kernel - 1;
      step_back(below, rows, inputs, values_, below == 0 ? gradient + p * layer.in_stride : unit_values_);
      rows = inputs;
    }
  }

 private:
  // (inputs, in_stride) gradient of a layer's input from that of `outputs` pre-activations.
  void step_back(int64_t l, int64_t outputs, int64_t inputs, const float* arriving, float* gradient) {
    const PackedLayer& layer = layers_[l];
    const int64_t span = layer.span();
    multiply(outputs, span, layer.out_channels, arriving, layer.out_stride, layer.backward, nullptr, columns_, span);
    std::memset(gradient, 0, sizeof(float) * inputs * layer.in_stride);
    for (int64_t p = 0; p < outputs; ++p) add_scaled(gradient + p * layer.in_stride, 1.0f, columns_ + p * span, span);
  }

  const PackedLayer* layers_ = nullptr;
  int64_t count_ = 0;
  std::vector<PassLayer> places_;
  float* values_ = nullptr;
  float* columns_ = nullptr;
  float* unit_values_ = nullptr;
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
