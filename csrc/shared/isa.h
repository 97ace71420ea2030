// Which instruction set the CPU operators run with: the best that this processor has, until set_isa() lowers it.
#pragma once

#include <string>
#include <vector>

namespace fastinterp {

// In ascending order: each has what the ones before it have.
enum class Isa { generic, avx2, avx512, avx512vnni };

// An operator asks once, at its entry, and keeps to the answer: what it packs for one instruction set is read by no
// other, also when another thread calls set_isa() meanwhile.
Isa current_isa();
const char* current_isa_name();

// Those that this processor has, in ascending order.
std::vector<std::string> usable_isa_names();

// Throws std::invalid_argument, a ValueError in Python, for a name that is not among them.
void set_isa(const std::string& name);

}  // namespace fastinterp
