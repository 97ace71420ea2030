// fastinterp::optimize_adam on the CPU: checks and repacks tensors, then runs one problem per thread at a time.
#include "optimize.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "../gating.h"
#include "../problems.h"
#include "packed_stack.h"

#define FASTINTERP_KERNEL "optimize_kernel.inl"
#include "for_each_isa.h"

namespace fastinterp {
namespace {

// The largest singular value of a layer's filters, or a little more: the eigenvalues of G = W W^T are not negative, so
// the largest is at most the root of the sum of their eighth powers.
double spectral_norm(const at::Tensor& weight) {
  const at::Tensor rows = weight.flatten(1).to(at::kDouble);
  const at::Tensor second = at::mm(rows, rows.t());
  const at::Tensor fourth = at::mm(second, second);
  const double eighth_powers = at::mm(fourth, fourth).norm().item<double>();
  return std::pow(eighth_powers, 1.0 / 8) * (1 + 1e-9);
}

std::vector<LayerBounds> bound_layers(const ConvLayer* layers, at::TensorList weights) {
  std::vector<LayerBounds> bounds(weights.size());
  double above_input = 1, above_first = 1;
  for (size_t l = 0; l < weights.size(); ++l) {
    const ConvLayer& layer = layers[l];
    double total = 0;
    for (int64_t c = 0; c < layer.out_channels; ++c) {
      double squared = 0;
      for (int64_t k = 0; k < layer.kernel; ++k) squared += layer.norms[c * layer.kernel + k];
      total += squared;
      const double norm = std::sqrt(squared) * (1 + 1e-5);
      bounds[l].norm.push_back(static_cast<float>(norm));
      bounds[l].lipschitz.push_back(static_cast<float>(norm * above_input));
      bounds[l].bend.push_back(static_cast<float>(norm * above_first));
    }
    // Every input is read by `kernel` locations at most.
    const double overlap = std::sqrt(static_cast<double>(layer.kernel)), whole = spectral_norm(weights[l]) * overlap;
    bounds[l].frobenius = std::sqrt(total) * overlap;
    above_input *= whole;
    if (l > 0) above_first *= whole;
  }
  return bounds;
}

enum class Path { one_layer, stack, dense };

std::tuple<at::Tensor, at::Tensor, at::Tensor> optimize_adam(
    const at::Tensor& target, at::TensorList weights, at::TensorList biases, const at::Tensor& start,
    const at::Tensor& begin, const at::Tensor& end, c10::string_view activation, int64_t steps, double l2_weight,
    double similarity_weight, double learning_rate, double beta1, double beta2, double epsilon) {
  const ConvStack stack =
      check_adam(target, weights, biases, start, begin, end, std::string(activation), steps, epsilon);
  check_problem_rows(stack, begin, end);
  const int64_t problems = target.size(0), field = stack.field(stack.size() - 1), width = start.size(2);
  const int64_t channels = stack.layers.back().out_channels;
  const int64_t* begins = begin.const_data_ptr<int64_t>();
  const int64_t* ends = end.const_data_ptr<int64_t>();

  at::Tensor optimum = at::zeros_like(start);
  at::Tensor gates = at::zeros({problems, channels}, start.options().dtype(at::kBool));
  at::Tensor evaluations = at::zeros({problems}, start.options().dtype(at::kLong));
  const Path path = stack.activation.is_tanh ? Path::dense : stack.size() == 1 ? Path::one_layer : Path::stack;
  const Packing packing{path != Path::dense, path != Path::one_layer, path != Path::one_layer};
  PackedStack packed;
  for (const ConvWeights& layer : stack.layers) packed.add(layer, packing);
  const AdamSettings settings{static_cast<float>(l2_weight),
                              static_cast<float>(similarity_weight),
                              learning_rate,
                              beta1,
                              beta2,
                              epsilon,
                              steps};
  const ConvLayer* layers = packed.layers();
  const std::vector<LayerBounds> bounds =
      path == Path::stack ? bound_layers(layers, weights) : std::vector<LayerBounds>();
  const int64_t stride = layers[0].in_stride;
  const int64_t scratch_floats = path == Path::one_layer ? FASTINTERP_DISPATCH(certified_scratch_floats)(layers[0])
                                 : path == Path::stack
                                     ? FASTINTERP_DISPATCH(stack_scratch_floats)(layers, stack.size())
                                     : FASTINTERP_DISPATCH(dense_scratch_floats)(layers, stack.size());
  const float* targets = target.const_data_ptr<float>();
  const float* starts = start.const_data_ptr<float>();
  float* optima = optimum.data_ptr<float>();
  bool* gate = gates.data_ptr<bool>();
  int64_t* evaluated = evaluations.data_ptr<int64_t>();

  at::parallel_for(0, problems, 1, [&](int64_t first, int64_t last) {
    FloatBuffer scratch(scratch_floats), x(field * stride);
    std::vector<int64_t> active(channels);
    for (int64_t b = first; b < last; ++b) {
      std::fill_n(x.data(), field * stride, 0.0f);
      for (int64_t row = begins[b]; row < ends[b]; ++row)
        std::copy_n(starts + (b * field + row) * width, width, x.data() + row * stride);
      Problem problem{targets + b * channels, begins[b], ends[b], x.data(), gate + b * channels, 0};
      if (path == Path::one_layer) {
        FASTINTERP_DISPATCH(optimize_certified)
        (layers[0], settings, stack.activation.slope, problem, scratch.data(), active.data());
      } else if (path == Path::stack) {
        FASTINTERP_DISPATCH(optimize_stack)
        (layers, bounds.data(), stack.size(), settings, stack.activation.slope, problem, scratch.data());
      } else {
        FASTINTERP_DISPATCH(optimize_dense)
        (layers, stack.size(), settings, stack.activation, problem, scratch.data());
      }
      evaluated[b] = problem.evaluations;
      for (int64_t row = begins[b]; row < ends[b]; ++row)
        std::copy_n(x.data() + row * stride, width, optima + (b * field + row) * width);
    }
  });
  return {optimum, gates, evaluations};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("optimize_adam", &optimize_adam); }

}  // namespace fastinterp
