// Which instruction set the CPU kernels run with, chosen once when the extension is loaded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace fastinterp {

// In ascending order: each has what the ones before it have.
enum class Isa { generic, avx2, avx512, avx512vnni };

inline Isa detect_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool has_vnni = has_avx512 && __builtin_cpu_supports("avx512vnni");
  const Isa best = has_vnni ? Isa::avx512vnni : has_avx512 ? Isa::avx512 : has_avx2 ? Isa::avx2 : Isa::generic;
  // FASTINTERP_SIMD lowers the choice, so that one machine can test every path; it never raises it.
  const char* wanted = std::getenv("FASTINTERP_SIMD");
  if (wanted == nullptr) return best;
  if (std::string_view(wanted) == "generic") return Isa::generic;
  if (std::string_view(wanted) == "avx2") return std::min(best, Isa::avx2);
  if (std::string_view(wanted) == "avx512") return std::min(best, Isa::avx512);
  return best;
#else
  return Isa::generic;
#endif
}

inline Isa isa() {
  static const Isa chosen = detect_isa();
  return chosen;
}

inline const char* isa_name() {
  switch (isa()) {
    case Isa::avx512vnni:
      return "avx512vnni";
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "generic";
  }
}

}  // namespace fastinterp
