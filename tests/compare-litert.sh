#!/usr/bin/env bash
# Compares `flatmin run` with LiteRT's reference kernels, byte by byte: whole networks, their accuracy on real samples,
# and every operator over a generated grid (host-sim/cli/tests/operators). LiteRT comes from PyPI into a virtual
# environment in target/, which is kept. Says so loudly where that, or the shared keyword-spotting data, cannot
# be had; the bundled models' golden outputs are tested by cargo in any case.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/litert
python=$venv/bin/python
skip() { echo "SKIPPED: the live comparison with LiteRT: $*"; exit 0; }
usable() { [ -x "$python" ] && "$python" -c 'import numpy, ai_edge_litert.interpreter' 2>/dev/null; }

if ! usable; then
  command -v python3 >/dev/null || skip "no python3 here"
  mkdir -p target
  log=target/litert.log
  rm -rf "$venv"
  python3 -m venv "$venv" >"$log" 2>&1 || skip "python3 -m venv failed: $(tail -1 "$log")"
  echo "installing ai-edge-litert into $venv"
  "$python" -m pip install --quiet ai-edge-litert numpy >>"$log" 2>&1 || skip "PyPI gives no ai-edge-litert here: $(tail -1 "$log")"
  usable || skip "ai-edge-litert does not run here: $("$python" -c 'import ai_edge_litert.interpreter' 2>&1 | tail -1)"
fi

shared=${SHARED:-../shared}
kws=("$shared/models/mlperf-tiny/keyword_spotting/kws_ref_model.tflite" "$shared/data/kws_speech_commands/test4890_mfcc_i8.bin")
arguments=()
if [ -r "${kws[0]}" ] && [ -r "${kws[1]}" ]; then
  arguments=(--kws "${kws[@]}")
else
  echo "SKIPPED: MLPerf Tiny's keyword spotting: no model or clips in $shared"
fi
cargo build --quiet --release -p host-sim
flatmin=${CARGO_TARGET_DIR:-target}/release/flatmin
# A tuned network, written back as a .tflite: LiteRT must answer as the device does.
"$flatmin" export --wearer 3 --label-noise 0.2 --output target/tuned.tflite
# And one with a class more than the model had.
"$python" -c 'import numpy
draws = numpy.random.default_rng(1)
numpy.save("target/x.npy", draws.integers(-128, 128, (64, 100, 6), dtype=numpy.int8))
numpy.save("target/y.npy", numpy.arange(64) % 8)'
"$flatmin" export host-sim/models/wearer03.tflite --data target/x.npy target/y.npy --spare-classes 1 --output target/grown.tflite
# One whose layers are read by constants, a residual, a pool and a mean, all of which are quantized anew.
"$python" host-sim/cli/tests/operators/normalized.py target/normalized.tflite target/x.npy target/y.npy
"$flatmin" export target/normalized.tflite --data target/x.npy target/y.npy --layers 4 --method sgd --learning-rate 0.05 \
  --epochs 60 --output target/normalized-tuned.tflite
arguments+=(--random target/tuned.tflite target/grown.tflite target/normalized{,-tuned}.tflite)
tiny=$shared/models/mlperf-tiny
images=("$tiny/image_classification/pretrainedResnet_quant.tflite" "$shared/data/cifar10/test5k_jpeg75.bin")
if [ -r "${images[0]}" ] && [ -r "${images[1]}" ]; then
  arguments+=("$tiny"/anomaly_detection/ad01_int8.tflite
    "$tiny"/image_classification/pretrainedResnet_{quant,large_int8}.tflite
    "$tiny"/streaming_wakeword/str_ww_ref_model.tflite "$tiny"/visual_wake_words/vww_96_int8.tflite
    "$shared"/models/tflm/*.tflite "$shared"/models/microflow/*.tflite --images "${images[@]}")
else
  echo "SKIPPED: MLPerf Tiny's other networks: no models or pictures in $shared"
fi
"$python" host-sim/sim/tests/compare_with_litert.py "$flatmin" ${arguments[@]+"${arguments[@]}"}

# MLPerf Tiny's quality, on real samples: of every keyword clip, and of some pictures or, with EVERY_SAMPLE=1, of all.
quality=()
labels=$shared/data/kws_speech_commands/test4890.csv
if [ -r "${kws[0]}" ] && [ -r "${kws[1]}" ] && [ -r "$labels" ]; then
  quality+=(--clips "${kws[@]}" "$labels")
else
  echo "SKIPPED: accuracy of keyword spotting: no model, clips or labels in $shared"
fi
cifar=("$shared"/data/cifar10/{train4k_clean,train4k_jpeg75,test5k_jpeg75}.bin)
if [ -r "${images[0]}" ] && [ -r "${cifar[0]}" ] && [ -r "${cifar[1]}" ] && [ -r "${cifar[2]}" ]; then
  quality+=(--images "${images[0]}" "${cifar[@]}")
  quality+=(--images "$tiny/image_classification/pretrainedResnet_large_int8.tflite" "${cifar[0]}")
  [ -n "${EVERY_SAMPLE:-}" ] || quality+=(--most-images 500)
else
  echo "SKIPPED: accuracy of image classification: no model or pictures in $shared"
fi
if [ ${#quality[@]} -gt 0 ]; then
  "$python" host-sim/sim/tests/compare_accuracy.py "$flatmin" "${quality[@]}"
  echo "SKIPPED: quality of visual wake words and anomaly detection: there are no real samples of theirs"
fi

# Wake-word networks, which keep variables from hop to hop: inside a package of PyPI, of which nothing is kept here.
words=target/pymicro-wakeword
if ! ls "$words"/pymicro_wakeword/models/*.tflite >/dev/null 2>&1; then
  rm -rf "$words"
  "$python" -m pip install --quiet --no-deps --target "$words" pymicro-wakeword >>"${log:-target/litert.log}" 2>&1 || true
fi
if ls "$words"/pymicro_wakeword/models/*.tflite >/dev/null 2>&1; then
  "$python" host-sim/sim/tests/compare_streams.py "$flatmin" "$words"/pymicro_wakeword/models/*.tflite
else
  echo "SKIPPED: streaming wake-word networks: PyPI gives no pymicro-wakeword here: $(tail -1 "${log:-target/litert.log}")"
fi

"$python" host-sim/cli/tests/operators/generate.py
cargo test --quiet --workspace --test main operator_grid
