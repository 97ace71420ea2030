// What every operator's glue for a GPU needs. No CUDA header, and no CUDA build of torch, is needed to compile it.
// Values that live on the GPU are not looked at, so nothing here waits for it: rows, lengths and k out of range, which
// the CPU operators refuse, are clamped by the kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/library.h>

#include "device.h"

// Where an operator's glue registers itself.
#ifdef FASTINTERP_EMULATED
// tests/emulation: the same code on CPU tensors, kernels run thread by thread.
#define FASTINTERP_GPU_LIBRARY(m) TORCH_LIBRARY_IMPL(fastinterp_emulated, CPU, m)
#else
#define FASTINTERP_GPU_LIBRARY(m) TORCH_LIBRARY_IMPL(fastinterp, CUDA, m)
#endif

namespace fastinterp::cuda {

// A device made current, and the stream that is current there.
class OnDevice {
 public:
  explicit OnDevice(at::Device device) : guard_(device) {
#ifndef FASTINTERP_EMULATED
    use_device(device.index());
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
#endif
  }
  void* stream() const { return stream_; }

 private:
  c10::DeviceGuard guard_;
  void* stream_ = nullptr;
};

inline void check_same_device(at::Device device, at::TensorList tensors, const char* names) {
  for (const at::Tensor& tensor : tensors)
    TORCH_CHECK_VALUE(tensor.device() == device, names, ": expected all on ", device, ", got one on ", tensor.device());
}

// (C, K, C_in) of torch's (C, C_in, K): one filter after another.
inline at::Tensor filter_rows(const at::Tensor& weight) { return weight.permute({0, 2, 1}).contiguous(); }

}  // namespace fastinterp::cuda
