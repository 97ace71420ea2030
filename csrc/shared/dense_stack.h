// A whole stack for all problems of a call, by the products of torch's BLAS: what the glue for a GPU uses where no
// kernel of ours holds the gradient.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "check.h"
#include "gpu.h"
#include "stack.h"

namespace fastinterp::cuda {

// Whether row `first` + i of a receptive field lies inside the sentence frame, (B, count, 1).
inline at::Tensor existing(const at::Tensor& begin, const at::Tensor& end, int64_t first, int64_t count) {
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

  at::Tensor gradient(const at::Tensor& target) const { return gradient(target, false); }

  // As if every pre-activation were positive, of a stack that has kinks; needs no `forward`.
  at::Tensor gradient_of_open_gates(const at::Tensor& target) const { return gradient(target, true); }

 private:
  at::Tensor gradient(const at::Tensor& target, bool open) const {
    at::Tensor arriving = target.unsqueeze(1);
    for (int64_t l = stack_.size() - 1; l >= 0; --l) {
      const ConvWeights& layer = stack_.layers[l];
      const int64_t problems = arriving.size(0), outputs = arriving.size(1);
      const at::Tensor slopes = (open ? arriving : arriving.mul(derivative(values_[l]))).mul(exists_[l]);
      const at::Tensor columns = at::mm(slopes.view({problems * outputs, layer.out_channels}), filters_[l])
                                     .view({problems, outputs, layer.kernel, layer.in_channels});
      arriving = at::zeros({problems, outputs + layer.kernel - 1, layer.in_channels}, target.options());
      for (int64_t k = 0; k < layer.kernel; ++k) arriving.narrow(1, k, outputs).add_(columns.select(2, k));
    }
    return arriving;
  }

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

}  // namespace fastinterp::cuda
