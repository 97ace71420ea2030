#!/usr/bin/env bash
# Every kernel under compute-sanitizer: out of bounds, races in shared memory, reads of what was never written.
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizer=$(command -v compute-sanitizer || echo "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
[[ -x $sanitizer ]] || { echo "compute-sanitizer is not installed"; exit 1; }
# torch's caching allocator would hide an access behind a tensor's end.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1 FASTINTERP_EXAMPLES=3
check() {
  echo "== $*"
  "$sanitizer" --error-exitcode 1 "$@" \
    python3 -m pytest --quiet -p no:cacheprovider tests/kernels -m cuda -k "agrees_with_the_reference or tie"
}
check --tool memcheck --kernel-name kernel_substring=fastinterp
check --tool racecheck --kernel-name kernel_substring=fastinterp
check --tool initcheck # every kernel: torch's write what ours read
