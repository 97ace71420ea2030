// Operator schemas. fastinterp/ops.py documents each operator.
#pragma once

#include <torch/library.h>

namespace fastinterp {

inline void define_operators(torch::Library& m) {
  m.def(
      "saliency(Tensor embedded, Tensor lengths, int frame, Tensor[] weights, Tensor[] biases, Tensor class_weight, "
      "Tensor class_bias, str activation, int layer, bool keep_activations) -> (Tensor scores, Tensor class_scores, "
      "Tensor activations)");
  m.def(
      "optimize_adam(Tensor target, Tensor[] weights, Tensor[] biases, Tensor start, Tensor begin, Tensor end, "
      "str activation, int steps, float l2_weight, float similarity_weight, float learning_rate, float beta1, "
      "float beta2, float epsilon) -> (Tensor optimum, Tensor gates, Tensor evaluations)");
  m.def(
      "optimize_ccp(Tensor target, Tensor[] weights, Tensor[] biases, Tensor begin, Tensor end, str activation, "
      "int max_iterations, float tolerance, float l2_weight, float similarity_weight) -> (Tensor optimum, Tensor "
      "gates, Tensor iterations, Tensor residual)");
  m.def(
      "cosine_topk(Tensor queries, Tensor vocabulary, Tensor inverse_norms, int k) -> (Tensor cosines, Tensor "
      "indices)");
}

}  // namespace fastinterp
