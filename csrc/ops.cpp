// Operator schemas and the Python module: nothing else. fastinterp/ops.py documents each operator.
#include <torch/extension.h>
#include <torch/library.h>

#include "cpu/isa.h"

TORCH_LIBRARY(fastinterp, m) {
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

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Registers the fastinterp operators with PyTorch and reports how they were built.";
  m.attr("cuda") = false;
  m.attr("cuda_archs") = pybind11::tuple();
  m.attr("simd") = fastinterp::isa_name();
}
