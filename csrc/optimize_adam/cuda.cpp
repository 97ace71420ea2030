// fastinterp::optimize_adam on a GPU: checks its arguments, makes its results, launches cuda.cu.
#include "cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

// Whether row `first` + i of a receptive field lies inside the sentence frame, (B, count, 1).
at::Tensor existing(const at::Tensor& begin, const at::Tensor& end, int64_t first, int64_t count) {
  const at::Tensor place = at::arange(first, first + count, begin.options());
  return place.ge(begin.unsqueeze(1)).logical_and_(place.lt(end.unsqueeze(1))).unsqueeze(2);
}

// The gradient of a . a'(X) through a whole stack, by the products of torch's BLAS.
class DenseStack {
 public:
  DenseStack(const ConvStack& stack, const Problems& problems) : stack_(stack), biases_(problems.biases.vec()) {
    int64_t rows = stack.receptive_field(), offset = 0;
    for (int64_t l = 0; l < stack.size(); ++l) {
      const ConvWeights& layer = stack.layers[l];
      rows -= layer.kernel - 1;
      offset += (layer.kernel - 1) / 2;
      filters_.push_back(filter_rows(problems.weights[l]).flatten(1));  // (C, K * C_in)
      exists_.push_back(existing(problems.begin, problems.end, offset, rows));
    }
  }

  // The last layer's values before the activation, (B, C); keeps what `gradient` needs.
  at::Tensor forward(const at::Tensor& x) {
    values_.clear();
    at::Tensor hidden = x, reached;
    for (int64_t l = 0; l < stack_.size(); ++l) {
      const ConvWeights& layer = stack_.layers[l];
      const int64_t problems = hidden.size(0), rows = hidden.size(1), outputs = rows - layer.kernel + 1;
      const int64_t span = layer.kernel * layer.in_channels;
      const at::Tensor windows =
          hidden.as_strided({problems, outputs, span}, {rows * layer.in_channels, layer.in_channels, 1})
              .reshape({problems * outputs, span});
      reached = at::addmm(biases_[l], windows, filters_[l].t());
      // Outside the sentence frame a convolution sees zeros, not the activation of a bias.
      hidden = activate(reached).view({problems, outputs, layer.out_channels}).mul(exists_[l]);
      values_.push_back(hidden);
    }
    return reached;
  }

  at::Tensor gradient(const at::Tensor& target) const {
    at::Tensor arriving = target.unsqueeze(1);
    for (int64_t l = stack_.size() - 1; l >= 0; --l) {
      const ConvWeights& layer = stack_.layers[l];
      const int64_t problems = arriving.size(0), outputs = arriving.size(1);
      const at::Tensor slopes = arriving.mul(derivative(values_[l])).mul(exists_[l]);
      const at::Tensor columns = at::mm(slopes.view({problems * outputs, layer.out_channels}), filters_[l])
                                     .view({problems, outputs, layer.kernel, layer.in_channels});
      arriving = at::zeros({problems, outputs + layer.kernel - 1, layer.in_channels}, target.options());
      for (int64_t k = 0; k < layer.kernel; ++k) arriving.narrow(1, k, outputs).add_(columns.select(2, k));
    }
    return arriving;
  }

 private:
  at::Tensor activate(const at::Tensor& z) const {
    return stack_.activation.is_tanh ? at::tanh(z) : at::leaky_relu(z, stack_.activation.slope);
  }
  at::Tensor derivative(const at::Tensor& values) const {
    if (stack_.activation.is_tanh) return values.square().neg_().add_(1);
    return at::where(values.gt(0), at::Scalar(1.0f), at::Scalar(stack_.activation.slope)).to(values.scalar_type());
  }

  const ConvStack& stack_;
  std::vector<at::Tensor> biases_, filters_, exists_, values_;
};

using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // optimum, gates, evaluations

AdamWeights weights_of(const AdamSettings& settings) {
  return {settings.l2_weight, settings.similarity_weight, static_cast<float>(settings.beta1),
          static_cast<float>(settings.beta2)};
}

// The first layer: all steps in one launch.
Results optimize_one_layer(const ConvStack& stack, const Problems& problems, const at::Tensor& start,
                           const AdamSettings& settings, const AdamNumbers* numbers, void* stream) {
  const at::Tensor& target = problems.target;
  at::Tensor optimum = at::zeros_like(start);
  at::Tensor gates = at::zeros_like(target, target.options().dtype(at::kBool));
  at::Tensor evaluations = at::zeros({target.size(0)}, problems.begin.options());
  const at::Tensor rows = filter_rows(problems.weights[0]);
  const at::Tensor squared_norms = rows.to(at::kDouble).square().sum(2);
  take_all_steps({target.const_data_ptr<float>(), rows.const_data_ptr<float>(), squared_norms.const_data_ptr<double>(),
                  stack.layers[0].bias, start.const_data_ptr<float>(), problems.begin.const_data_ptr<int64_t>(),
                  problems.end.const_data_ptr<int64_t>(), numbers, weights_of(settings), stack.activation.slope,
                  static_cast<int>(settings.steps), static_cast<int>(target.size(1)), static_cast<int>(start.size(1)),
                  static_cast<int>(start.size(2)), optimum.data_ptr<float>(), gates.data_ptr<bool>(),
                  evaluations.data_ptr<int64_t>()},
                 target.size(0), stream);
  return {optimum, gates, evaluations};
}

// Any stack: torch's BLAS for the gradient, a launch for each step.
Results optimize_dense(const ConvStack& stack, const Problems& problems, const at::Tensor& start,
                       const AdamSettings& settings, const AdamNumbers* numbers, void* stream) {
  const int64_t count = start.size(0), field_rows = start.size(1), width = start.size(2);
  at::Tensor x = start.mul(existing(problems.begin, problems.end, 0, field_rows));
  const at::Tensor first_sum = at::zeros_like(x), second_sum = at::zeros_like(x);
  DenseStack dense(stack, problems);
  for (int64_t step = 0; step < settings.steps; ++step) {
    dense.forward(x);
    const at::Tensor pull = dense.gradient(problems.target);
    take_dense_step(
        {pull.const_data_ptr<float>(), problems.begin.const_data_ptr<int64_t>(), problems.end.const_data_ptr<int64_t>(),
         numbers + step, weights_of(settings), static_cast<int>(field_rows), static_cast<int>(width),
         x.data_ptr<float>(), first_sum.data_ptr<float>(), second_sum.data_ptr<float>()},
        count, stream);
  }
  const at::Tensor gates = dense.forward(x).gt(0).logical_and_(problems.target.ne(0));
  return {x, gates,
          at::full({count}, (settings.steps + 1) * stack.layers.back().out_channels, problems.begin.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> optimize_adam(
    const at::Tensor& target, at::TensorList weights, at::TensorList biases, const at::Tensor& start,
    const at::Tensor& begin, const at::Tensor& end, c10::string_view activation, int64_t steps, double l2_weight,
    double similarity_weight, double learning_rate, double beta1, double beta2, double epsilon) {
  const AdamSettings settings{
      steps,  static_cast<float>(l2_weight), static_cast<float>(similarity_weight), learning_rate, beta1, beta2,
      epsilon};
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_adam(problems, start, settings);
  check_same_device(target.device(), {start, begin, end}, "start, begin, end");
  check_same_device(target.device(), weights, "weights");
  check_same_device(target.device(), biases, "biases");
  const OnDevice on(target.device());
  const at::Tensor table = at::empty({steps, 2}, start.options());
  auto* numbers = reinterpret_cast<AdamNumbers*>(table.data_ptr<float>());
  fill_adam_table({settings, numbers}, on.stream());
  const bool held =
      stack.size() == 1 && !stack.activation.is_tanh && fits_one_layer(target.size(1), start.size(1), start.size(2));
  return held ? optimize_one_layer(stack, problems, start, settings, numbers, on.stream())
              : optimize_dense(stack, problems, start, settings, numbers, on.stream());
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("optimize_adam", &optimize_adam); }

}  // namespace fastinterp::cuda
