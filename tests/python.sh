#!/usr/bin/env bash
# Builds Python's `flatmin` (host-sim/python) as `pip install` does, into a virtual environment in target/, which is kept, and runs
# its tests and the examples in its documentation. Says so loudly where Python, or what its tests take, cannot be had.
# FLATMIN names the program that the tests compare with; else the one that was built last.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$PWD/target/python
python=$venv/bin/python
log=$PWD/target/python.log
skip() { echo "SKIPPED: Python's flatmin: $*"; exit 0; }
usable() { [ -x "$python" ] && "$python" -c 'import maturin, numpy, pytest, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

if ! usable; then
  command -v python3 >/dev/null || skip "no python3 here"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "$(python3 --version) is older than 3.10"
  mkdir -p target
  rm -rf "$venv"
  python3 -m venv "$venv" >"$log" 2>&1 || skip "python3 -m venv failed: $(tail -1 "$log")"
  echo "installing what its tests take into $venv"
  "$python" -m pip install --quiet 'maturin>=1.9,<2' numpy pytest >>"$log" 2>&1 || skip "PyPI gives no maturin here: $(tail -1 "$log")"
  # Each is missed by a few tests alone, which say so.
  for package in scikit-learn ai-edge-litert matplotlib ipykernel nbclient; do
    "$python" -m pip install --quiet "$package" >>"$log" 2>&1 || echo "SKIPPED: no $package for the tests of Python's flatmin"
  done
fi

# Fleets' tests take Flower (300 MB, half a minute, once), those of sweeps Optuna.
for package in 'flwr>=1.42,<2' 'optuna>=4'; do
  "$python" -c "import ${package%%>*}" 2>/dev/null || "$python" -m pip install --quiet "$package" >>"$log" 2>&1 \
    || echo "SKIPPED: no $package for the tests of fleets or sweeps"
done

manifest=(--manifest-path host-sim/python/Cargo.toml)
cargo fmt "${manifest[@]}" --check
cargo clippy "${manifest[@]}" --release --target-dir "${CARGO_TARGET_DIR:-target}" --quiet -- -D warnings
# As a user does it, but for the tools, which are there, and for what was built already.
PATH=$venv/bin:$PATH CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} "$python" -m pip install --quiet --no-build-isolation --no-deps \
  --force-reinstall ./host-sim/python
"$python" -m pytest --quiet -p no:cacheprovider -rs host-sim/python/tests
# The examples of the package as it was installed.
"$python" -m pytest --quiet -p no:cacheprovider --doctest-modules --doctest-ignore-import-errors --pyargs flatmin
