#!/bin/bash
# Puts what tests/gpu/run.sh needs besides torch, torchvision and this tree into gpu-bundle/, as wheels:
#   tests/gpu/bundle.sh PYTHON [PYTHON_VERSION]
# PYTHON has pip; PYTHON_VERSION (3.12) is that of the machine with the GPU, an x86-64 Linux.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 version=${2:-3.12}
max_mib=60

rm -rf gpu-bundle
platforms=(--platform linux_x86_64 --platform manylinux1_x86_64 --platform manylinux2014_x86_64)
for minor in 5 12 17 24 27 28 31 34; do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
"$python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: \
    --implementation cp --python-version "$version" "${platforms[@]}" \
    --constraint requirements/all.lock --requirement tests/gpu/requirements.txt --dest gpu-bundle

tree_kib=$(git ls-files -z | du -ck --files0-from=- | tail -1 | cut -f1)
wheels_kib=$(du -k gpu-bundle | cut -f1)
echo "gpu-bundle: $((wheels_kib / 1024)) MiB of wheels for Python $version; the tree has $((tree_kib / 1024)) MiB"
if (((tree_kib + wheels_kib) / 1024 >= max_mib)); then
    echo "together they must stay below $max_mib MiB: shorten tests/gpu/requirements.txt" >&2
    exit 1
fi
