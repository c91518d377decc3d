#!/bin/bash
# Everything that needs a GPU, in less than eight minutes: the tests, then the benchmark.
#   [PYTHON=python3] [PALIMPSEST_TEST_DEVICE=cpu] tests/gpu/run.sh [FOLDER]
# FOLDER (gpu-results) gets tests.txt and gpu.md. PYTHON has torch and torchvision, in whatever versions;
# everything else comes from gpu-bundle/ (make gpu-bundle) if that is there. Nothing is downloaded or
# installed. Exits with 1 if a test or the benchmark fails.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
results=$(realpath -m "${1:-gpu-results}") python=${PYTHON:-python3}
mkdir -p "$results"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
for wheel in "$root"/gpu-bundle/*.whl; do
    [ -e "$wheel" ] && "$python" -m zipfile -e "$wheel" "$site"
done
cd "$root"
export PYTHONPATH=$site:$root OMP_WAIT_POLICY=PASSIVE CUBLAS_WORKSPACE_CONFIG=:4096:8
unset PYTHONDONTWRITEBYTECODE
status=0

"$python" -c 'import sys, torch
print("Python", sys.version.split()[0], "torch", torch.__version__, "CUDA", torch.version.cuda)
print("device:", torch.cuda.get_device_name() if torch.cuda.is_available() else "none, the CPU alone")'
# only the conftest.py of this folder: the others need what is not in the bundle
timeout 280 "$python" -m pytest -p no:cacheprovider --confcutdir tests/gpu -m gpu -v tests/gpu 2>&1 |
    tee "$results/tests.txt" || status=1
timeout 190 "$python" -m benchmarks.gpu --seconds "${BENCHMARK_SECONDS:-5}" --output "$results/gpu.md" ||
    status=1
exit $status
