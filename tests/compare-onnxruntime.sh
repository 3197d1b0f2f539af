#!/usr/bin/env bash
# Compares `flatmin run` with ONNX Runtime on MLPerf Tiny's networks as ONNX files, operator by operator. ONNX
# Runtime comes from PyPI into a virtual environment in target/, which is kept. Says so loudly where that, or the
# shared models, cannot be had; small models' golden outputs are tested by cargo in any case.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/onnxruntime
python=$venv/bin/python
skip() { echo "SKIPPED: the live comparison with ONNX Runtime: $*"; exit 0; }
usable() { [ -x "$python" ] && "$python" -c 'import numpy, onnx, onnxruntime' 2>/dev/null; }

shared=${SHARED:-../shared}
models=()
for name in kws_ref_model ad01_int8 pretrainedResnet_quant vww_96_int8; do
  model=$shared/models/mlperf-tiny-onnx-qdq/$name.qdq.onnx
  [ -r "$model" ] || skip "no $model"
  models+=("$model")
done
if ! usable; then
  command -v python3 >/dev/null || skip "no python3 here"
  mkdir -p target
  log=target/onnxruntime.log
  rm -rf "$venv"
  python3 -m venv "$venv" >"$log" 2>&1 || skip "python3 -m venv failed: $(tail -1 "$log")"
  echo "installing onnxruntime into $venv"
  "$python" -m pip install --quiet onnx onnxruntime numpy >>"$log" 2>&1 || skip "PyPI gives no onnxruntime here: $(tail -1 "$log")"
  usable || skip "onnxruntime does not run here: $("$python" -c 'import onnx, onnxruntime' 2>&1 | tail -1)"
fi
clips=$shared/data/kws_speech_commands/test4890_mfcc_i8.bin
arguments=()
if [ -r "$clips" ]; then
  arguments=(--clips "$clips")
else
  echo "SKIPPED: spoken words for keyword spotting: no $clips"
fi
cargo build --quiet --release -p host-sim
"$python" host-sim/sim/tests/onnx/compare_with_onnxruntime.py "${CARGO_TARGET_DIR:-target}/release/flatmin" "${models[@]}" ${arguments[@]+"${arguments[@]}"}
