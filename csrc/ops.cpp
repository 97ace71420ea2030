// The operators' schemas, and the Python module that says how they were built: nothing else. fastinterp/kernels
// documents each operator; its folder here registers what computes it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/library.h>

#include "shared/isa.h"

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
      "contrast(Tensor target, Tensor[] weights, Tensor[] biases, Tensor begin, Tensor end, str activation, "
      "Tensor[] slopes, Tensor mean, Tensor precision, Tensor factor, int steps, float damping) -> (Tensor optimum, "
      "Tensor distance)");
  m.def(
      "exchange_words(Tensor target, Tensor[] weights, Tensor[] biases, Tensor begin, Tensor end, str activation, "
      "Tensor vectors, Tensor candidates, Tensor mean, Tensor factor, int rounds, float tie) -> (Tensor chosen, Tensor "
      "reached)");
  m.def(
      "cosine_topk(Tensor queries, Tensor vocabulary, Tensor inverse_norms, int k) -> (Tensor cosines, Tensor "
      "indices)");
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Registers the fastinterp operators with PyTorch and reports how they were built.";
#ifdef FASTINTERP_CUDA_ARCHS
  m.attr("cuda") = true;
  m.attr("cuda_archs") = pybind11::tuple(pybind11::str(FASTINTERP_CUDA_ARCHS).attr("split")());
#else
  m.attr("cuda") = false;
  m.attr("cuda_archs") = pybind11::tuple();
#endif
  m.attr("simd_sets") = pybind11::tuple(pybind11::cast(fastinterp::usable_isa_names()));
  m.def("simd", &fastinterp::current_isa_name, "The instruction set that CPU operators run with.");
  m.def("set_simd", &fastinterp::set_isa, pybind11::arg("name"),
        "Lets CPU operators run with one of `simd_sets`, from their next call on.");
}
