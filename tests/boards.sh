#!/usr/bin/env bash
# Builds every board's firmware as it is flashed, with warnings denied, and compares the flash and the RAM that the linker
# gave it with boards/budgets.txt: growth fails. `bash tests/boards.sh --write` writes the file anew. Then links the mps2
# board's firmware with a panic handler that does not exist, around the bundled model and with all its layers in integers: no
# panic can be reached; and builds a new board's skeleton. `flatmin pack` and `flatmin new-board` write what that takes:
# FLATMIN names the program, or cargo builds it.
set -euo pipefail
cd "$(dirname "$0")/.."
budgets=boards/budgets.txt
host_target=${CARGO_TARGET_DIR:-target}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

flatmin=("${FLATMIN:-}")
[ -n "${FLATMIN:-}" ] || flatmin=(cargo run --quiet -p host-sim --target-dir "$host_target" --)
mkdir -p target/firmware
deep=$PWD/target/firmware/all-layers
cat >"$deep.toml" <<RECIPE
version = 1
model = "../../host-sim/models/wearer01.tflite"
layers = 7
compact = true
RECIPE
"${flatmin[@]}" pack --recipe "$deep.toml" --output "$deep.pack"

# Board, crate, rustc's name of the processor or `-` where it is the target's own, and what else cargo is told.
boards="mps2-an386 qemu-cortex-m -
mps2-an500 qemu-cortex-m -
mps2-an505 qemu-cortex-m cortex-m33
mps3-an547 qemu-cortex-m cortex-m55 --target thumbv8m.main-none-eabihf
stm32f405 stm32 - --features stm32f405 --config chips/stm32f405.toml
riscv32-virt qemu-riscv32 -
riscv32-virt-signed qemu-riscv32 - --features signed
mps2-an386-m0plus qemu-cortex-m cortex-m0plus --target thumbv6m-none-eabi --config env.FLATMIN_MODEL='../app/model-compact.rs'
mps2-an386-integer qemu-cortex-m - --config env.FLATMIN_MODEL='$deep.rs'
esp32-c3 esp32-c3 -
starter starter -"
# These take long to build, most of it Embassy; they do so beside the others.
chips="nrf52840-dk nrf52840-dk -
nrf52840-dk-motion nrf52840-dk - --features motion
nrf52840-embassy nrf52840-embassy -
pico2 pico2 -
nucleo-f767zi stm32 - --features nucleo-f767zi
nucleo-h743zi stm32 - --features nucleo-h743zi"

# Builds a board's crate, for a processor if one is named, with further arguments for cargo.
build() {
  local board=$1 crate=$2 processor=$3 toolchain= said variable flags folder=boards/$2
  [ -d "$folder" ] || folder=$CARGO_TARGET_DIR/$crate
  target=$(sed -n 's/^target = "\(.*\)"/\1/p' "$folder/.cargo/config.toml")
  [[ $* = *--target* ]] && target=$(sed 's/.*--target \([^ ]*\).*/\1/' <<<"$*")
  # Where rustup has no bare-metal targets, a toolchain of its own has them.
  [ -d "$(rustc --print target-libdir --target "$target")" ] || toolchain=+embedded
  # Joined to the flags of boards/.cargo/config.toml, as RUSTFLAGS are not.
  variable=CARGO_TARGET_$(tr 'a-z.-' 'A-Z__' <<<"$target")_RUSTFLAGS
  flags=
  [ "$processor" = - ] || flags=-Ctarget-cpu=$processor
  # Helium's floating point has other bits; rustc warns of a feature that it passes on without a name of its own for it.
  [ "$processor" = cortex-m55 ] && flags+=" -Ctarget-feature=-mve.fp"
  said=$(cd "$folder" && env "$variable=$flags" FLATMIN_BOARD=${board%-integer} cargo $toolchain build --locked --release "${@:4}" 2>&1 </dev/null) ||
    { echo "$said" >&2; exit 1; }
  if grep '^warning' <<<"$said" | grep -v '`mve.fp`\|^warning: .* generated 1 warning\( (1 duplicate)\)\?$' >&2; then
    echo "$said" >&2
    echo "$board: warnings" >&2
    exit 1
  fi
}

# Bytes in flash: the sections that are loaded. Bytes of RAM: the writable ones but the stack's, and the ESP32's room for
# code in RAM.
bytes() {
  readelf -SW "$1" | awk '
    function number(hex,  value, i) {
      for (i = 1; i <= length(hex); i++) value = value * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
      return value + 0
    }
    { sub(/^ *\[ *[0-9]+\] /, "") }
    $2 ~ /^[A-Z]/ && $7 ~ /A/ {
      if ($2 != "NOBITS") flash += number($5)
      if ($7 ~ /W/ && $1 != ".stack" || $1 == ".rwdata_dummy") ram += number($5)
    }
    END { print flash + 0, ram + 0 }'
}

# Builds the boards that standard input lists, and writes what each takes to a file.
measure() {
  local board crate processor further flash ram
  while read -r board crate processor further; do
    # shellcheck disable=SC2086 # words
    build "$board" "$crate" "$processor" $further
    read -r flash ram <<<"$(bytes "$CARGO_TARGET_DIR/$target/release/$crate")"
    [ "$flash" -gt 50000 ] && [ "$ram" -gt 10000 ] || { echo "$board: no sections read" >&2; exit 1; }
    echo "$board $flash $ram" >>"$1"
  done
}

(
  export CARGO_TARGET_DIR=$PWD/target/firmware-chips
  measure "$results/2" <<<"$chips"
) &
export CARGO_TARGET_DIR=$PWD/target/firmware
measure "$results/1" <<<"$boards"
# What LLVM shows to be out of reach in one build no input reaches in any: shown with its own inlining, which sees more at once.
for model in "" "$deep.rs"; do
  (
    [ -z "$model" ] || export FLATMIN_MODEL="$model"
    RUSTFLAGS= build mps2-an386 qemu-cortex-m - --no-default-features --features no-panic
  )
done
echo "no panic can be reached in the firmware of mps2-an386 with the bundled model, nor with all its layers in integers"
skeleton=skeleton-f429zi
rm -rf "$CARGO_TARGET_DIR/$skeleton"
"${flatmin[@]}" new-board $skeleton --chip STM32F429ZITx \
  --flash 0x08000000:2M --ram 0x20000000:192K --folder "$CARGO_TARGET_DIR"
(cd "$CARGO_TARGET_DIR/$skeleton" && cargo generate-lockfile --quiet --offline)
build $skeleton $skeleton -
wait $!

measured='# board, KiB of flash in bytes (half a KiB spare at least), bytes of static RAM: written by `bash tests/boards.sh --write`'
failed=
while read -r board flash ram; do
  # The checkout's path is in the crates' hashes, which order the functions and what is inlined: some 300 bytes more or less.
  measured+=$'\n'"$board $(((flash + 512 + 1023) / 1024 * 1024)) $ram"
  read -r flash_budget ram_budget <<<"$(sed -n "s/^$board //p" "$budgets" 2>/dev/null)" || true
  echo "$board: $flash bytes of flash, $ram of RAM; budget ${flash_budget:-none}, ${ram_budget:-none}"
  for pair in "flash $flash ${flash_budget:-0}" "RAM $ram ${ram_budget:-0}"; do
    read -r what bytes budget <<<"$pair"
    [ "$bytes" -le "$budget" ] || failed+="$board: $bytes bytes of $what, $budget in $budgets"$'\n'
  done
done < <(cat "$results/1" "$results/2")

if [ "${1:-}" = --write ]; then
  echo "$measured" >"$budgets"
elif [ -n "$failed" ]; then
  printf '%sto accept: bash tests/boards.sh --write\n' "$failed" >&2
  exit 1
fi
