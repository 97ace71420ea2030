// fastinterp::contrast on a GPU: torch's matrix products over as many problems at once as memory allows. Nothing waits
// for the device, so every problem takes every step at every length, and keeps what made it better.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_solve_ex.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "../shared/batched.h"
#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

constexpr int64_t kFloatsAtOnce = 1 << 26;  // of the Jacobians

// Some problems of a call, whose Jacobians fit into memory together.
class ContrastPart {
 public:
  ContrastPart(const Problems& problems, const ConvStack& stack, const ContrastBackground& background, int64_t first,
               int64_t count)
      : problems_(problems),
        background_(background),
        activation_(stack.activation),
        target_(problems.target.narrow(0, first, count)) {
    const at::Tensor begin = problems.begin.narrow(0, first, count), end = problems.end.narrow(0, first, count);
    entries_ = ((end - begin) * stack.layers[0].in_channels).to(at::kFloat).view({-1, 1, 1});
    exists_ = existing(stack, begin, end);
  }

  // Returns the inputs and their distances.
  std::pair<at::Tensor, at::Tensor> solve(const ContrastSettings& settings) {
    at::Tensor inputs = start();
    at::Tensor best = distance(see(inputs));
    for (int64_t step = 0; step < settings.steps; ++step) {
      const at::Tensor direction = gauss_newton(see(inputs), settings.damping);
      at::Tensor found = at::zeros_like(best, best.options().dtype(at::kBool));
      at::Tensor next = inputs, reached = best;
      double share = 1;
      for (int64_t tries = 0; tries < kShortestStep; ++tries, share *= kShorter) {
        const at::Tensor tried = inputs + share * direction;
        const at::Tensor value = distance(see(tried));
        const at::Tensor takes = (value < best).logical_and(found.logical_not());
        next = at::where(takes.view({-1, 1, 1}), tried, next);
        reached = at::where(takes, value, reached);
        found = found.logical_or(takes);
      }
      inputs = next;
      best = reached;
    }
    return {inputs, best};
  }

 private:
  int64_t layers() const { return static_cast<int64_t>(problems_.weights.size()); }

  // Pre-activations (B, P, C) of each layer.
  std::vector<at::Tensor> see(const at::Tensor& inputs) const {
    const at::Tensor first = convolve(inputs, problems_.weights[0]) + problems_.biases[0];
    return see_above(first, problems_.weights, problems_.biases, activation_, exists_);
  }

  at::Tensor reached(const std::vector<at::Tensor>& z) const { return activate(activation_, z.back().select(1, 0)); }

  at::Tensor distance(const std::vector<at::Tensor>& z) const {
    return at::matmul(reached(z) - target_, background_.factor).square().sum(1);
  }

  at::Tensor start() const {
    const at::Tensor apart = target_ - background_.mean, wanted = at::matmul(apart, background_.factor);
    at::Tensor pulled = at::matmul(apart, background_.precision).unsqueeze(1);
    for (int64_t l = layers() - 1; l >= 0; --l) {
      pulled = convolve_back(pulled, problems_.weights[l]) * exists_[l];
      if (l > 0) pulled = pulled * background_.slopes[l - 1];
    }
    const at::Tensor length = pulled.flatten(1).norm(2, 1).view({-1, 1, 1});
    const at::Tensor unit = at::where(length > 0, pulled * (entries_.sqrt() / length), 0);
    at::Tensor best = at::full_like(target_.select(1, 0), -INFINITY), inputs = unit;
    for (const float scale : kScales) {
      const at::Tensor mine = at::matmul(reached(see(scale * unit)) - background_.mean, background_.factor);
      const at::Tensor lengths = mine.norm(2, 1) * wanted.norm(2, 1);
      const at::Tensor likeness = at::where(lengths > 0, (mine * wanted).sum(1) / lengths, 0);
      inputs = at::where((likeness > best).view({-1, 1, 1}), scale * unit, inputs);
      best = at::maximum(best, likeness);
    }
    return inputs;
  }

  // The damped step of the distance for the gates in force; gates that the target opens count as open.
  at::Tensor gauss_newton(const std::vector<at::Tensor>& z, double damping) const {
    const int64_t count = target_.size(0), channels = target_.size(1);
    const bool gated = !activation_.is_tanh && activation_.slope == 0;
    at::Tensor value = reached(z);
    const at::Tensor slope = slope_at(activation_, gated ? at::maximum(value, target_) : value);
    if (gated) value = slope * z.back().select(1, 0);
    const at::Tensor identity = at::eye(channels, target_.options());
    at::Tensor jacobian = identity.expand({count, channels, channels}).reshape({count * channels, 1, channels});
    for (int64_t l = layers() - 1; l >= 0; --l) {
      jacobian = convolve_back(jacobian, problems_.weights[l]);
      const int64_t rows = jacobian.size(1), width = jacobian.size(2);
      const at::Tensor kept = l > 0 ? exists_[l] * slope_at(activation_, activate(activation_, z[l - 1])) : exists_[0];
      jacobian = (jacobian.view({count, channels, rows, width}) * kept.unsqueeze(1)).view({-1, rows, width});
    }
    jacobian = jacobian.view({count, channels, -1});
    const at::Tensor precision = slope.unsqueeze(2) * background_.precision * slope.unsqueeze(1);
    const at::Tensor system = at::matmul(precision, at::matmul(jacobian, jacobian.transpose(1, 2)));
    const at::Tensor size = system.diagonal(0, 1, 2).mean(1).view({-1, 1, 1});
    const at::Tensor moves = size > 0;  // unless every gate on the way is shut
    const at::Tensor pull = slope * at::matmul(target_ - value, background_.precision);
    const at::Tensor solved = std::get<0>(
        at::linalg_solve_ex(system + at::where(moves, damping * size, 1) * identity, pull.unsqueeze(2), true, false));
    const at::Tensor step = at::matmul(solved.transpose(1, 2), jacobian).view({count, exists_[0].size(1), -1});
    return at::where(moves, step, 0);
  }

  const Problems& problems_;
  const ContrastBackground& background_;
  Activation activation_;
  at::Tensor target_;
  at::Tensor entries_;              // (B, 1, 1): of the field's rows that exist
  std::vector<at::Tensor> exists_;  // (B, P, 1), 1 or 0: of the field's rows, then of each layer's outputs
};

std::tuple<at::Tensor, at::Tensor> contrast(const at::Tensor& target, at::TensorList weights, at::TensorList biases,
                                            const at::Tensor& begin, const at::Tensor& end, c10::string_view activation,
                                            at::TensorList slopes, const at::Tensor& mean, const at::Tensor& precision,
                                            const at::Tensor& factor, int64_t steps, double damping) {
  const ContrastSettings settings{steps, damping};
  const Problems problems{target, weights, biases, begin, end, activation};
  const ContrastBackground background{slopes, mean, precision, factor};
  const ConvStack stack = check_contrast(problems, background, settings);
  check_same_device(target.device(), {begin, end, mean, precision, factor}, "begin, end, mean, precision, factor");
  check_same_device(target.device(), weights, "weights");
  check_same_device(target.device(), biases, "biases");
  check_same_device(target.device(), slopes, "slopes");
  const int64_t count = target.size(0), rows = stack.receptive_field(), width = stack.layers[0].in_channels;
  const int64_t at_once = std::max<int64_t>(1, kFloatsAtOnce / (target.size(1) * rows * width));
  std::vector<at::Tensor> optima{at::zeros({0, rows, width}, target.options())};
  std::vector<at::Tensor> distances{at::zeros({0}, target.options())};
  for (int64_t first = 0; first < count; first += at_once) {
    ContrastPart part(problems, stack, background, first, std::min(at_once, count - first));
    auto [optimum, distance] = part.solve(settings);
    optima.push_back(optimum);
    distances.push_back(distance);
  }
  return {at::cat(optima), at::cat(distances)};
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("contrast", &contrast); }

}  // namespace fastinterp::cuda
