#!/bin/sh
# Make .venv from requirements/all.lock. As root on Debian it first installs the venv module if that is missing.
set -eu
python=${1:-python3}
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null && [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
    apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Palimpsest needs Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 2; }
[ -x .venv/bin/pip ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements/all.lock
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . 2>/dev/null ||
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
