// Compiles the file named by FASTINTERP_INL (relative to this folder) once per instruction set, each copy in a
// namespace of its own: fastinterp::generic, ::avx2, ::avx512, and ::avx512vnni where FASTINTERP_WITH_VNNI is defined.
// FASTINTERP_DISPATCH(f) is the copy of `f` for the instruction set in force. Include once per translation unit.
#include "isa.h"

#define FASTINTERP_ISA generic
#define FASTINTERP_LANES 4
#define FASTINTERP_ENTER_ISA
#define FASTINTERP_LEAVE_ISA
#include FASTINTERP_INL
#undef FASTINTERP_ENTER_ISA
#undef FASTINTERP_LEAVE_ISA

#if defined(__x86_64__)
#define FASTINTERP_LEAVE_ISA FASTINTERP_POP_TARGET

#undef FASTINTERP_ISA
#undef FASTINTERP_LANES
#define FASTINTERP_TOGGLE
#define FASTINTERP_ISA avx2
#define FASTINTERP_LANES 8
#define FASTINTERP_ENTER_ISA FASTINTERP_PUSH_TARGET("avx2,fma,bmi,bmi2,popcnt")
#include FASTINTERP_INL
#undef FASTINTERP_ENTER_ISA

#undef FASTINTERP_ISA
#undef FASTINTERP_LANES
#undef FASTINTERP_TOGGLE
#define FASTINTERP_ISA avx512
#define FASTINTERP_LANES 16
#define FASTINTERP_ENTER_ISA FASTINTERP_PUSH_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt")
#include FASTINTERP_INL
#undef FASTINTERP_ENTER_ISA

#if defined(FASTINTERP_WITH_VNNI)
#undef FASTINTERP_ISA
#define FASTINTERP_TOGGLE
#define FASTINTERP_VNNI
#define FASTINTERP_ISA avx512vnni
#define FASTINTERP_ENTER_ISA \
  FASTINTERP_PUSH_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi,bmi2,popcnt")
#include FASTINTERP_INL
#undef FASTINTERP_ENTER_ISA
#else
namespace fastinterp {
namespace avx512vnni = avx512;
}
#endif

#define FASTINTERP_DISPATCH(function)                                              \
  (fastinterp::current_isa() == fastinterp::Isa::avx512vnni ? avx512vnni::function \
   : fastinterp::current_isa() == fastinterp::Isa::avx512   ? avx512::function     \
   : fastinterp::current_isa() == fastinterp::Isa::avx2     ? avx2::function       \
                                                            : generic::function)
#else
#define FASTINTERP_DISPATCH(function) (generic::function)
#endif
