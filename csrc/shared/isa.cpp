#include "isa.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>

namespace fastinterp {
namespace {

constexpr const char* kNames[] = {"generic", "avx2", "avx512", "avx512vnni"};

Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool has_vnni = has_avx512 && __builtin_cpu_supports("avx512vnni");
  return has_vnni ? Isa::avx512vnni : has_avx512 ? Isa::avx512 : has_avx2 ? Isa::avx2 : Isa::generic;
#else
  return Isa::generic;
#endif
}

std::atomic<Isa>& chosen_isa() {
  static std::atomic<Isa> chosen = best_isa();
  return chosen;
}

}  // namespace

Isa current_isa() { return chosen_isa(); }

const char* current_isa_name() { return kNames[static_cast<int>(current_isa())]; }

std::vector<std::string> usable_isa_names() { return {kNames, kNames + static_cast<int>(best_isa()) + 1}; }

void set_isa(const std::string& name) {
  const std::vector<std::string> usable = usable_isa_names();
  const auto found = std::find(usable.begin(), usable.end(), name);
  if (found == usable.end()) {
    std::string listed;
    for (const std::string& each : usable) listed += (listed.empty() ? "" : ", ") + each;
    throw std::invalid_argument("simd: expected what this processor has (" + listed + "), got " + name.substr(0, 80));
  }
  chosen_isa() = static_cast<Isa>(found - usable.begin());
}

}  // namespace fastinterp
