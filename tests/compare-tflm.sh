#!/usr/bin/env bash
# Compares flatmin with tflite-micro's interpreter: activation arena, code of a firmware with the kernels of one model,
# and outputs on random inputs with LiteRT's reference kernels as the third. Both come from PyPI into a virtual
# environment in target/, which is kept; tflite-micro is there as a pre-release for few Pythons. Says so loudly where
# they, or the shared models, cannot be had. Needs a bare-metal target and QEMU, as tests/run provides them.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/tflm
python=$venv/bin/python
skip() { echo "SKIPPED: the comparison with tflite-micro: $*"; exit 0; }
usable() { [ -x "$python" ] && "$python" -c 'import numpy, ai_edge_litert.interpreter; from tflite_micro import runtime' 2>/dev/null; }

if ! usable; then
  command -v python3 >/dev/null || skip "no python3 here"
  mkdir -p target
  log=target/tflm.log
  rm -rf "$venv"
  python3 -m venv "$venv" >"$log" 2>&1 || skip "python3 -m venv failed: $(tail -1 "$log")"
  echo "installing tflite-micro and ai-edge-litert into $venv"
  # Only tflite-micro is a pre-release; what it needs is there before.
  "$python" -m pip install --quiet ai-edge-litert numpy pyyaml >>"$log" 2>&1 || skip "PyPI gives no ai-edge-litert here: $(tail -1 "$log")"
  "$python" -m pip install --quiet --pre tflite-micro >>"$log" 2>&1 || skip "PyPI gives no tflite-micro here: $(tail -1 "$log")"
  usable || skip "tflite-micro does not run here: $("$python" -c 'from tflite_micro import runtime' 2>&1 | tail -1)"
fi

models=(host-sim/models/wearer01.tflite)
shared=${SHARED:-../shared}/models
tiny=$shared/mlperf-tiny
if [ -r "$tiny/keyword_spotting/kws_ref_model.tflite" ]; then
  models+=("$tiny"/keyword_spotting/kws_ref_model.tflite "$tiny"/anomaly_detection/ad01_int8.tflite
    "$tiny"/image_classification/pretrainedResnet_{quant,large_int8}.tflite
    "$tiny"/visual_wake_words/vww_96_int8.tflite "$tiny"/streaming_wakeword/str_ww_ref_model.tflite
    "$shared"/tflm/*.tflite "$shared"/microflow/*.tflite)
else
  echo "SKIPPED: MLPerf Tiny's networks beside tflite-micro: no models in $shared"
fi
if [ -r target/grown.tflite ]; then
  models+=(target/grown.tflite)
else
  echo "SKIPPED: a network with an added class beside tflite-micro: tests/compare-litert.sh makes it"
fi
cargo build --quiet --release -p host-sim -p flatmin-lab
flatmin=${CARGO_TARGET_DIR:-target}/release/flatmin
"$python" host-sim/sim/tests/compare_with_tflm.py "$flatmin" "${models[@]}" --inputs "${INPUTS:-50}"

FLATMIN_PYTHON=$PWD/$python "$flatmin" bench --board host
