// What every -inl.h file includes: the region of code that is compiled once per instruction set.
//
//   FASTINTERP_BEFORE_NAMESPACE();
//   namespace fastinterp::FASTINTERP_ISA {
//   ...
//   }  // namespace fastinterp::FASTINTERP_ISA
//   FASTINTERP_AFTER_NAMESPACE();
//
// An -inl.h file includes what it needs in front of that region, and has an include guard that for_each_isa.h turns
// over between two instruction sets (FASTINTERP_TOGGLE). Opened on its own, in an editor, it is that of `generic`.
#pragma once

#define FASTINTERP_PRAGMA(tokens) _Pragma(#tokens)
#if defined(__clang__)
#define FASTINTERP_PUSH_TARGET(target) \
  FASTINTERP_PRAGMA(clang attribute push(__attribute__((target(target))), apply_to = function))
#define FASTINTERP_POP_TARGET FASTINTERP_PRAGMA(clang attribute pop)
#else
#define FASTINTERP_PUSH_TARGET(name) FASTINTERP_PRAGMA(GCC push_options) FASTINTERP_PRAGMA(GCC target name)
#define FASTINTERP_POP_TARGET FASTINTERP_PRAGMA(GCC pop_options)
#endif

#define FASTINTERP_BEFORE_NAMESPACE() FASTINTERP_ENTER_ISA static_assert(true, "takes the semicolon")
#define FASTINTERP_AFTER_NAMESPACE() FASTINTERP_LEAVE_ISA static_assert(true, "takes the semicolon")

#ifndef FASTINTERP_ISA
#define FASTINTERP_ISA generic
#define FASTINTERP_LANES 4
#define FASTINTERP_ENTER_ISA
#define FASTINTERP_LEAVE_ISA
#endif
