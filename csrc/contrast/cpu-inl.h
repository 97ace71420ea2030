// contrast's problems, one per thread at a time: the start, then damped Gauss-Newton steps on the whitened distance.
//
// Everything between two steps happens in the first layer's pre-activations, in which the input is linear: a shorter
// step costs no more than the layers above.
#if defined(FASTINTERP_CONTRAST_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_CONTRAST_INL_H
#undef FASTINTERP_CONTRAST_INL_H
#else
#define FASTINTERP_CONTRAST_INL_H
#endif

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "../shared/activation-inl.h"
#include "../shared/float_buffer.h"
#include "../shared/isa_region.h"
#include "../shared/packed_stack-inl.h"
#include "../shared/stack.h"
#include "cpu.h"
#include "gram-inl.h"
#include "settings.h"
#include "solve-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// One layer's outputs at one problem; those outside [first, end) see past the sentence frame.
struct ContrastLayer {
  int64_t outputs, first, end;
  FloatBuffer z, value;        // (outputs, out_stride): before and after the activation
  FloatBuffer slope;           // (outputs, out_stride), 0 where the output does not exist
  std::vector<int32_t> open;   // units whose slope is not 0, in ascending order
  std::vector<int64_t> start;  // (outputs + 1): where those of each output begin in `open`
  FloatBuffer jacobian;        // (C, outputs * out_stride): of the last layer's pre-activations by these
  FloatBuffer compact;         // (C, outputs * out_stride): its columns at `open`, side by side
};

class ContrastSolver {
 public:
  ContrastSolver(const ConvStack& stack, const PackedLayer* layers, const float* lag_products,
                 const ContrastSettings& settings, const ContrastBatch& batch)
      : layers_(layers),
        count_(stack.size()),
        field_rows_(stack.receptive_field()),
        channels_(stack.layers.back().out_channels),
        activation_(stack.activation),
        lag_products_(lag_products),
        settings_(settings),
        batch_(batch),
        solver_(channels_) {
    int64_t rows = field_rows_, widest = 0;
    for (int64_t l = 0; l < count_; ++l) {
      widest = std::max(widest, layers[l].span());
      rows -= layers[l].kernel - 1;
      const int64_t units = rows * layers[l].out_stride;
      states_.push_back({rows,
                         0,
                         rows,
                         FloatBuffer(units),
                         FloatBuffer(units),
                         FloatBuffer(units),
                         {},
                         {},
                         FloatBuffer(channels_ * units),
                         FloatBuffer(channels_ * units)});
    }
    const int64_t units = first().outputs * layers[0].out_stride, stride = layers[0].in_stride;
    x_ = FloatBuffer(field_rows_ * stride);
    step_ = FloatBuffer(largest_units());
    z_step_ = FloatBuffer(units);
    z_before_ = FloatBuffer(units);
    columns_ = FloatBuffer(std::max(channels_ * std::max(widest, units), field_rows_ * widest));
    pulled_ = FloatBuffer(largest_units());
  }

  void solve(int64_t problem) {
    target_ = batch_.target + problem * channels_;
    begin_ = batch_.begin[problem];
    end_ = batch_.end[problem];
    for (int64_t l = 0, offset = 0; l < count_; ++l) {
      offset += layers_[l].left_padding();
      states_[l].first = std::clamp<int64_t>(begin_ - offset, 0, states_[l].outputs);
      states_[l].end = std::clamp<int64_t>(end_ - offset, 0, states_[l].outputs);
    }
    double distance = start();
    for (int64_t step = 0; step < settings_.steps && take_step(&distance); ++step) {
    }
    batch_.distance[problem] = static_cast<float>(distance);
    const PackedLayer& layer = layers_[0];
    for (int64_t row = begin_; row < end_; ++row)
      std::copy_n(x_.data() + row * layer.in_stride, layer.in_channels,
                  batch_.optimum + (problem * field_rows_ + row) * layer.in_channels);
  }

 private:
  ContrastLayer& first() { return states_.front(); }
  ContrastLayer& last() { return states_.back(); }

  int64_t largest_units() const {
    int64_t most = field_rows_ * layers_[0].in_stride;
    for (int64_t l = 0; l < count_; ++l) most = std::max(most, states_[l].outputs * layers_[l].out_stride);
    return most;
  }

  // Leaves in x_ what sets the location apart, sent back through gates as open as they usually are, at the scale that
  // looks most alike; returns its distance. An input that nothing pulls stays 0.
  double start() {
    for (int64_t l = 0; l + 1 < count_; ++l) {
      const PackedLayer& layer = layers_[l];
      ContrastLayer& state = states_[l];
      for (int64_t p = 0; p < state.outputs; ++p)
        for (int64_t c = 0; c < layer.out_channels; ++c)
          state.slope[p * layer.out_stride + c] = p >= state.first && p < state.end ? batch_.slopes[l][c] : 0.0f;
    }
    std::vector<float> apart(channels_), pull(channels_);
    for (int64_t c = 0; c < channels_; ++c) apart[c] = target_[c] - batch_.mean[c];
    for (int64_t c = 0; c < channels_; ++c)
      pull[c] = static_cast<float>(dot_of(batch_.precision + c * channels_, apart.data(), channels_));
    std::fill_n(pulled_.data(), layers_[count_ - 1].out_stride, 0.0f);
    std::copy_n(pull.data(), channels_, pulled_.data());
    for (int64_t l = count_ - 1; l >= 0; --l) {
      pull_through(l, pulled_.data(), step_.data());
      const int64_t floats =
          l == 0 ? field_rows_ * layers_[0].in_stride : states_[l - 1].outputs * layers_[l].in_stride;
      for (int64_t i = 0; i < floats; ++i) pulled_[i] = l == 0 ? step_[i] : step_[i] * states_[l - 1].slope[i];
    }
    keep_existing_rows(pulled_.data());
    const int64_t floats = field_rows_ * layers_[0].in_stride;
    const double length = std::sqrt(dot_of(pulled_.data(), pulled_.data(), floats));
    std::fill_n(x_.data(), floats, 0.0f);
    const int64_t units = first().outputs * layers_[0].out_stride;
    std::fill_n(z_step_.data(), units, 0.0f);
    float scale = 0.0f;
    if (length > 0) {
      const double entries = static_cast<double>((end_ - begin_) * layers_[0].in_channels);
      const float unit = static_cast<float>(std::sqrt(entries) / length);
      for (int64_t i = 0; i < floats; ++i) x_[i] = unit * pulled_[i];
      see_input(x_.data(), z_step_.data());
      double best = -INFINITY;
      for (const float each : kScales) {
        set_first_layer(z_step_.data(), each);
        see_above();
        const double likeness = likeness_to_target();
        if (likeness > best) {
          best = likeness;
          scale = each;
        }
      }
      for (int64_t i = 0; i < floats; ++i) x_[i] *= scale;
    }
    set_first_layer(z_step_.data(), scale);
    see_above();
    return distance();
  }

  // One Gauss-Newton step, shortened until the distance falls; whether it did.
  bool take_step(double* distance_before) {
    const int64_t active = linearise();
    if (!gram(active)) return false;
    // X moves by J^T lambda.
    ContrastLayer& state = first();
    const int64_t units = state.outputs * layers_[0].out_stride;
    std::fill_n(pulled_.data(), units, 0.0f);
    for (int64_t i = 0; i < active; ++i)
      add_scaled(pulled_.data(), static_cast<float>(solver_.right[i]), state.jacobian.data() + i * units, units);
    pull_through(0, pulled_.data(), step_.data());
    keep_existing_rows(step_.data());
    see_input(step_.data(), z_step_.data());
    std::copy_n(state.z.data(), units, z_before_.data());
    double share = 1;
    for (int64_t tries = 0; tries < kShortestStep; ++tries, share *= kShorter) {
      const float length = static_cast<float>(share);
      for (int64_t i = 0; i < units; ++i) state.z[i] = z_before_[i] + length * z_step_[i];
      see_above();
      const double reached = distance();
      if (reached < *distance_before) {
        *distance_before = reached;
        for (int64_t i = 0; i < field_rows_ * layers_[0].in_stride; ++i) x_[i] += length * step_[i];
        return true;
      }
    }
    return false;  // the input stays where it was, and so would the next step
  }

  // Takes the slopes of every layer as they are, those of the last into solver_, and the Jacobian down to the first
  // layer. Only channels of the last layer whose slope is not 0 count; returns how many.
  int64_t linearise() {
    const PackedLayer& top = layers_[count_ - 1];
    const bool gated = !activation_.is_tanh && activation_.slope == 0;
    std::vector<float> lacking(channels_), slopes(channels_);
    int64_t active = 0;
    for (int64_t c = 0; c < channels_; ++c) {
      const float value = last().value[c];
      // A gate that the target opens counts as open.
      slopes[c] = derivative(activation_, gated ? std::max(value, target_[c]) : value);
      lacking[c] = target_[c] - (gated ? slopes[c] * last().z[c] : value);
      if (slopes[c] != 0) solver_.channel[active++] = c;
    }
    for (int64_t i = 0; i < active; ++i) {
      const int64_t c = solver_.channel[i];
      solver_.slope[i] = slopes[c];
      solver_.right[i] = slopes[c] * dot_of(batch_.precision + c * channels_, lacking.data(), channels_);
    }
    for (int64_t l = 0; l + 1 < count_; ++l) take_slopes(l);
    if (count_ == 1) {
      std::fill_n(first().jacobian.data(), active * top.out_stride, 0.0f);
      for (int64_t i = 0; i < active; ++i) first().jacobian[i * top.out_stride + solver_.channel[i]] = 1.0f;
      first().open.assign(solver_.channel.begin(), solver_.channel.begin() + active);
      first().start = {0, active};
      compress(0, active);
      return active;
    }
    ContrastLayer& below = states_[count_ - 2];
    for (int64_t i = 0; i < active; ++i)
      std::copy_n(top.rows + solver_.channel[i] * top.span(), top.span(), below.jacobian.data() + i * top.span());
    mask_and_compress(count_ - 2, active);
    for (int64_t l = count_ - 2; l > 0; --l) {
      const PackedLayer& layer = layers_[l];
      ContrastLayer& state = states_[l];
      const int64_t units = state.outputs * layer.out_stride, span = layer.span();
      const int64_t units_below = states_[l - 1].outputs * layer.in_stride;
      float* jacobian = states_[l - 1].jacobian.data();
      std::fill_n(jacobian, active * units_below, 0.0f);
      for (int64_t p = state.first; p < state.end; ++p) {
        multiply_open(active, span, layer.out_channels, state.compact.data() + state.start[p], units,
                      state.open.data() + state.start[p], state.start[p + 1] - state.start[p], p * layer.out_stride,
                      layer.backward, columns_.data(), span, false);
        for (int64_t i = 0; i < active; ++i)
          add_scaled(jacobian + i * units_below + p * layer.in_stride, 1.0f, columns_.data() + i * span, span);
      }
      mask_and_compress(l - 1, active);
    }
    return active;
  }

  void take_slopes(int64_t l) {
    const PackedLayer& layer = layers_[l];
    ContrastLayer& state = states_[l];
    state.open.clear();
    state.start.assign(1, 0);
    for (int64_t p = 0; p < state.outputs; ++p) {
      for (int64_t c = 0; c < layer.out_channels; ++c) {
        const int64_t unit = p * layer.out_stride + c;
        const bool exists = p >= state.first && p < state.end;
        state.slope[unit] = exists ? derivative(activation_, state.value[unit]) : 0.0f;
        if (state.slope[unit] != 0) state.open.push_back(static_cast<int32_t>(unit));
      }
      state.start.push_back(static_cast<int64_t>(state.open.size()));
    }
  }

  void mask_and_compress(int64_t l, int64_t active) {
    ContrastLayer& state = states_[l];
    const int64_t units = state.outputs * layers_[l].out_stride;
    for (int64_t i = 0; i < active; ++i)
      for (int64_t unit = 0; unit < units; ++unit) state.jacobian[i * units + unit] *= state.slope[unit];
    compress(l, active);
  }

  void compress(int64_t l, int64_t active) {
    ContrastLayer& state = states_[l];
    const int64_t units = state.outputs * layers_[l].out_stride, open = static_cast<int64_t>(state.open.size());
    for (int64_t i = 0; i < active; ++i)
      for (int64_t j = 0; j < open; ++j) state.compact[i * units + j] = state.jacobian[i * units + state.open[j]];
  }

  // The system of the step, (S P S J J^T + rho I) lambda = S P r, and its solution in solver_.right; false where no
  // gate on the way is open, so that nothing moves the location.
  bool gram(int64_t active) {
    const PackedLayer& layer = layers_[0];
    ContrastLayer& state = first();
    const int64_t units = state.outputs * layer.out_stride, stride = layer.out_stride;
    // Half of J T J^T, T what the first layer's filters have in common: for each position what those from it on have.
    for (int64_t p = 0; p < state.outputs; ++p) {
      const int64_t from = state.start[p], to = state.start[std::min(p + layer.kernel, state.outputs)];
      multiply_open(active, layer.out_channels, layer.kernel * stride, state.compact.data() + from, units,
                    state.open.data() + from, to - from, p * stride, lag_products_, columns_.data() + p * stride, units,
                    false);
    }
    for (int64_t i = 0; i < active; ++i)
      for (int64_t j = 0; j < active; ++j)
        solver_.gram(i, j) = dot(columns_.data() + i * units, state.jacobian.data() + j * units, units);
    for (int64_t i = 0; i < active; ++i)
      for (int64_t j = 0; j <= i; ++j)
        solver_.gram(i, j) = solver_.gram(j, i) = solver_.gram(i, j) + solver_.gram(j, i);
    for (int64_t row = 0; row < field_rows_; ++row)
      if (row < begin_ || row >= end_) take_away_row(row, active);
    return solver_.solve(active, batch_.precision, settings_.damping);
  }

  // A row outside the frame moves nothing, though the filters of existing positions reach over it.
  void take_away_row(int64_t row, int64_t active) {
    const PackedLayer& layer = layers_[0];
    ContrastLayer& state = first();
    const int64_t units = state.outputs * layer.out_stride, stride = layer.in_stride;
    bool seen = false;
    for (int64_t p = std::max(state.first, row - layer.kernel + 1); p < std::min(state.end, row + 1); ++p) {
      multiply_open(active, stride, layer.out_channels, state.compact.data() + state.start[p], units,
                    state.open.data() + state.start[p], state.start[p + 1] - state.start[p], p * layer.out_stride,
                    layer.backward + (row - p) * stride * layer.out_channels, columns_.data(), stride, seen);
      seen = true;
    }
    for (int64_t i = 0; seen && i < active; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        const double common = dot(columns_.data() + i * stride, columns_.data() + j * stride, stride);
        solver_.gram(i, j) = solver_.gram(j, i) = solver_.gram(i, j) - common;
      }
  }

  // Gradients (outputs, out_stride) at a layer's outputs, sent back to its inputs.
  void pull_through(int64_t l, const float* gradients, float* inputs) {
    const PackedLayer& layer = layers_[l];
    const int64_t outputs = states_[l].outputs, span = layer.span();
    multiply(outputs, span, layer.out_channels, gradients, layer.out_stride, layer.backward, nullptr, columns_.data(),
             span);
    std::fill_n(inputs, (outputs + layer.kernel - 1) * layer.in_stride, 0.0f);
    for (int64_t p = 0; p < outputs; ++p)
      add_scaled(inputs + p * layer.in_stride, 1.0f, columns_.data() + p * span, span);
  }

  void keep_existing_rows(float* inputs) const {
    const int64_t stride = layers_[0].in_stride;
    std::fill_n(inputs, begin_ * stride, 0.0f);
    std::fill_n(inputs + end_ * stride, (field_rows_ - end_) * stride, 0.0f);
  }

  // The first layer's filters on an input, without their biases.
  void see_input(const float* input, float* z) {
    const PackedLayer& layer = layers_[0];
    multiply(first().outputs, layer.out_channels, layer.span(), input, layer.in_stride, layer.forward, nullptr, z,
             layer.out_stride);
  }

  void set_first_layer(const float* z, float scale) {
    const PackedLayer& layer = layers_[0];
    for (int64_t p = 0; p < first().outputs; ++p)
      for (int64_t c = 0; c < layer.out_stride; ++c)
        first().z[p * layer.out_stride + c] = scale * z[p * layer.out_stride + c] + layer.bias[c];
  }

  // Everything above the first layer's pre-activations.
  void see_above() {
    for (int64_t l = 0; l < count_; ++l) {
      const PackedLayer& layer = layers_[l];
      ContrastLayer& state = states_[l];
      const int64_t floats = state.outputs * layer.out_stride;
      std::copy_n(state.z.data(), floats, state.value.data());
      activate_all(activation_, state.value.data(), floats);
      // Beyond the frame the next convolution sees its zero padding, not the activation of a bias.
      std::fill_n(state.value.data(), state.first * layer.out_stride, 0.0f);
      std::fill_n(state.value.data() + state.end * layer.out_stride, floats - state.end * layer.out_stride, 0.0f);
      if (l + 1 == count_) break;
      const PackedLayer& above = layers_[l + 1];
      multiply(states_[l + 1].outputs, above.out_channels, above.span(), state.value.data(), layer.out_stride,
               above.forward, above.bias, states_[l + 1].z.data(), above.out_stride);
    }
  }

  // Entry j of (values - mean) W or, without a mean, of values W.
  template <typename Difference>
  double whitened(int64_t j, Difference difference) const {
    double sum = 0;
    for (int64_t i = j; i < channels_; ++i) sum += difference(i) * batch_.factor[i * channels_ + j];  // W is triangular
    return sum;
  }

  double distance() {
    double squares = 0;
    for (int64_t j = 0; j < channels_; ++j) {
      const double apart = whitened(
          j, [&](int64_t i) { return static_cast<double>(last().value[i]) - static_cast<double>(target_[i]); });
      squares += apart * apart;
    }
    return squares;
  }

  // Cosine of the whitened activations.
  double likeness_to_target() {
    double common = 0, mine = 0, its = 0;
    for (int64_t j = 0; j < channels_; ++j) {
      const double a = whitened(j, [&](int64_t i) { return static_cast<double>(last().value[i]) - batch_.mean[i]; });
      const double b = whitened(j, [&](int64_t i) { return static_cast<double>(target_[i]) - batch_.mean[i]; });
      common += a * b;
      mine += a * a;
      its += b * b;
    }
    const double lengths = std::sqrt(mine) * std::sqrt(its);
    return lengths > 0 ? common / lengths : 0;
  }

  const PackedLayer* layers_;
  int64_t count_, field_rows_, channels_;
  Activation activation_;
  const float* lag_products_;
  const ContrastSettings& settings_;
  const ContrastBatch& batch_;
  StepSolver solver_;
  std::vector<ContrastLayer> states_;
  FloatBuffer x_, step_;           // (R, in_stride)
  FloatBuffer z_before_, z_step_;  // of the first layer's pre-activations
  FloatBuffer columns_, pulled_;
  const float* target_ = nullptr;
  int64_t begin_ = 0, end_ = 0;
};

static void optimize_contrast(const ConvStack& stack, const ContrastSettings& settings, const ContrastBatch& batch) {
  PackedStack packed;
  for (const ConvWeights& layer : stack.layers) packed.add(layer, {true, true, true});
  LagProducts lag_products(packed.layers()[0]);
  at::parallel_for(0, batch.count, 1, [&](int64_t first, int64_t last) {
    ContrastSolver solver(stack, packed.layers(), lag_products.packed(), settings, batch);
    for (int64_t problem = first; problem < last; ++problem) solver.solve(problem);
  });
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
