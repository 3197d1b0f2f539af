#!/usr/bin/env bash
# Builds every board's firmware as it is flashed, with warnings denied, and compares the flash and the RAM that the linker
# gave it with boards/budgets.txt: growth fails. `bash tests/boards.sh --write` writes the file anew. Then links the mps2
# board's firmware with a panic handler that does not exist: no panic can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
budgets=boards/budgets.txt
export CARGO_TARGET_DIR=$PWD/target/firmware

# Board, crate, and rustc's name of the processor where it is not the target's own.
boards="mps2-an386 qemu-cortex-m
mps2-an500 qemu-cortex-m
mps2-an505 qemu-cortex-m cortex-m33
mps3-an547 qemu-cortex-m cortex-m55
stm32f405 stm32f405
riscv32-virt qemu-riscv32
nrf52840-dk nrf52840-dk
pico2 pico2"

# Builds a board's crate, for a processor if one is named, with further arguments for cargo.
build() {
  local board=$1 crate=$2 processor=$3 toolchain= said
  target=$(sed -n 's/^target = "\(.*\)"/\1/p' "boards/$crate/.cargo/config.toml")
  # Where rustup has no bare-metal targets, a toolchain of its own has them.
  [ -d "$(rustc --print target-libdir --target "$target")" ] || toolchain=+embedded
  [ -z "$processor" ] || export CARGO_ENCODED_RUSTFLAGS=-Ctarget-cpu=$processor
  said=$(cd "boards/$crate" && FLATMIN_BOARD=$board cargo $toolchain build --locked --release "${@:4}" 2>&1 </dev/null) ||
    { echo "$said" >&2; exit 1; }
  unset CARGO_ENCODED_RUSTFLAGS
  if grep -A9 '^warning' <<<"$said" >&2; then echo "$board: warnings" >&2; exit 1; fi
}

# Bytes in flash: the sections that are loaded. Bytes of RAM: the writable ones but the stack's.
bytes() {
  readelf -SW "$1" | awk '
    function number(hex,  value, i) {
      for (i = 1; i <= length(hex); i++) value = value * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
      return value + 0
    }
    { sub(/^ *\[ *[0-9]+\] /, "") }
    $2 ~ /^[A-Z]/ && $7 ~ /A/ {
      if ($2 != "NOBITS") flash += number($5)
      if ($7 ~ /W/ && $1 != ".stack") ram += number($5)
    }
    END { print flash + 0, ram + 0 }'
}

measured=$(printf '# board, KiB of flash in bytes (half a KiB spare at least), bytes of static RAM: written by `bash tests/boards.sh --write`')
failed=
while read -r board crate processor; do
  build "$board" "$crate" "$processor"
  read -r flash ram <<<"$(bytes "$CARGO_TARGET_DIR/$target/release/$crate")"
  [ "$flash" -gt 50000 ] && [ "$ram" -gt 10000 ] || { echo "$board: no sections read" >&2; exit 1; }
  # The checkout's path is in the crates' hashes, which order the functions and what is inlined: some 300 bytes more or less.
  measured+=$'\n'"$board $(((flash + 512 + 1023) / 1024 * 1024)) $ram"
  read -r flash_budget ram_budget <<<"$(sed -n "s/^$board //p" "$budgets" 2>/dev/null)" || true
  echo "$board: $flash bytes of flash, $ram of RAM; budget ${flash_budget:-none}, ${ram_budget:-none}"
  for pair in "flash $flash ${flash_budget:-0}" "RAM $ram ${ram_budget:-0}"; do
    read -r what bytes budget <<<"$pair"
    [ "$bytes" -le "$budget" ] || failed+="$board: $bytes bytes of $what, $budget in $budgets"$'\n'
  done
done <<<"$boards"

if [ "${1:-}" = --write ]; then
  echo "$measured" >"$budgets"
elif [ -n "$failed" ]; then
  printf '%sto accept: bash tests/boards.sh --write\n' "$failed" >&2
  exit 1
fi

build mps2-an386 qemu-cortex-m "" --no-default-features --features no-panic
echo "no panic can be reached in the firmware of mps2-an386 with the bundled model"
