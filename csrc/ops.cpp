// Registers the operators' schemas, and makes the Python module that says how they were built: nothing else.
#include <torch/extension.h>
#include <torch/library.h>

#include "cpu/isa.h"
#include "schemas.h"

TORCH_LIBRARY(fastinterp, m) { fastinterp::define_operators(m); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Registers the fastinterp operators with PyTorch and reports how they were built.";
#ifdef FASTINTERP_CUDA_ARCHS
  m.attr("cuda") = true;
  m.attr("cuda_archs") = pybind11::tuple(pybind11::str(FASTINTERP_CUDA_ARCHS).attr("split")());
#else
  m.attr("cuda") = false;
  m.attr("cuda_archs") = pybind11::tuple();
#endif
  m.attr("simd") = fastinterp::isa_name();
}
