#!/usr/bin/env bash
# Builds, tests, sanitizes and benchmarks the CUDA half in under 10 minutes, on a machine with PyTorch and nvcc.
# Where nothing can be fetched, WHEELS names a folder of wheels for the Python packages that are missing.
# Results go to bench/results/gpu.json, and to RESULTS if that names a folder.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=("setuptools>=77" ninja click rich safetensors gensim scikit-learn msgpack pytest hypothesis captum)
python3 -m pip install --quiet ${WHEELS:+--no-index --find-links "$WHEELS"} "${packages[@]}"
architecture=$(python3 -c "import torch; print('{}.{}'.format(*torch.cuda.get_device_capability()))")
[[ $architecture == 9.0 ]] && architecture=9.0a
time FASTINTERP_CUDA=on TORCH_CUDA_ARCH_LIST="$architecture" python3 setup.py --quiet build_ext --inplace
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python3 -c "import torch; from fastinterp import _C; print('built for', _C.cuda_archs)"
failed=0
timeout 200 python3 -m pytest --quiet -m cuda tests || failed=1
timeout 150 tests/sanitize.sh || failed=1
timeout 200 python3 bench/gpu.py || failed=1
[[ -z ${RESULTS:-} ]] || cp bench/results/gpu.json "$RESULTS"
exit "$failed"
