#!/usr/bin/env bash
# setup-targets.sh - provision the bare-metal Rust targets.
#   1. TARGETS_FROM=rustup (default; an ordinary machine): `rustup target add ...`
#   2. TARGETS_FROM=debian (CI), or where 1. is refused: assemble a rustup-linked toolchain
#      "embedded" out of Debian's rustc-web 1.96 debs (never installed: they
#      Conflict with the Debian package `rustup`; only unpacked), and pre-build core/alloc/
#      compiler_builtins for every target into its sysroot, so that afterwards
#      plain `cargo +embedded build --target T` works on stable-style code
#      (no -Z build-std, no RUSTC_BOOTSTRAP).
# Prints the toolchain spec to use, e.g. `+stable` or `+embedded`, on the last line.
set -euo pipefail
TARGETS=${TARGETS:-"thumbv6m-none-eabi thumbv7em-none-eabihf thumbv8m.main-none-eabihf riscv32imc-unknown-none-elf riscv32imafc-unknown-none-elf"}
TC=${TC:-${XDG_DATA_HOME:-$HOME/.local/share}/embedded-rust}   # where the fallback lives
NAME=${NAME:-embedded}
VER=${DEB_RUST:-1.96.0}
log(){ echo "setup-targets: $*" >&2; }

if [ "${TARGETS_FROM:-rustup}" = rustup ]; then
  if timeout 120 rustup target add $TARGETS >&2; then echo "+stable"; exit 0; fi
  log "rustup target add refused; falling back to Debian's rustc-web $VER"
fi

# Builds core for each of the given targets, as rust-std components are built (O3, panic=abort, mem functions, bitcode:
# without it lto="fat" fails with "Cannot find section .llvmbc").
build_core() {
  local B=$TC/sysbuild t L
  rm -rf "$B"; mkdir -p "$B/src"
  printf '[package]\nname = "sysbuild"\nversion = "0.0.0"\nedition = "2021"\n[profile.release]\npanic = "abort"\ndebug = 0\n' > "$B/Cargo.toml"
  echo '#![no_std]' > "$B/src/lib.rs"
  for t in "$@"; do
    ( cd "$B"; env RUSTFLAGS=-Cembed-bitcode=yes RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$B/target" CARGO_INCREMENTAL=0 \
        cargo "+$NAME" build -q --release -Z build-std=core,alloc,compiler_builtins -Z build-std-features=compiler-builtins-mem --target "$t" >&2 )
    L=$TC/$NAME/lib/rustlib/$t/lib; rm -rf "$L"; mkdir -p "$L"
    cp "$B/target/$t/release/deps/"lib*.rlib "$L/"     # the .rlib embeds its metadata; the .rmeta twins only double the size
    rm -f "$L"/libsysbuild*
    log "core for $t: $(du -sh "$L" | cut -f1)"
  done
  rm -rf "$B"
}

if [[ $(rustup run "$NAME" rustc -vV 2>/dev/null) == *"release: $VER"* ]]; then
  missing=
  for t in $TARGETS; do ls "$TC/$NAME/lib/rustlib/$t/lib/"libcore-*.rlib >/dev/null 2>&1 || missing+="$t "; done
  [ -z "$missing" ] || build_core $missing
  log "toolchain $NAME complete"; echo "+$NAME"; exit 0
fi

# This way needs Debian's packages and an x86-64 machine.
for tool in apt-cache dpkg; do
  command -v $tool >/dev/null || { log "no $tool here: install the targets with \`rustup target add $TARGETS\`"; exit 1; }
done
mkdir -p "$TC/deb"; T=$TC/$NAME; H=x86_64-unknown-linux-gnu
cd "$TC/deb"
SUDO=
if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null; then SUDO=sudo; fi
version() { apt-cache madison rustc-web | awk -v v="$VER" 'index($3,v)==1{print $3; exit}'; }
V=$(version)
# A fresh machine has no list of packages, or an old one.
[ -n "$V" ] || { $SUDO apt-get update -qq >&2 || true; V=$(version); }
[ -n "$V" ] || { log "no rustc-web $VER among this machine's Debian packages"; exit 1; }
# run-time libraries of libLLVM22 (all normally there): libffi8 libedit2 libz3-4 libxml2 libzstd1
libraries="libz3-4 libedit2 libxml2 libffi8"
if ! dpkg -s $libraries >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] || [ -n "$SUDO" ] || { log "not root and no sudo: have these packages installed: $libraries"; exit 1; }
  $SUDO apt-get install -y --no-install-recommends $libraries >&2
fi
apt-get -o APT::Sandbox::User=root download "rustc-web=$V" "rust-web-src=$V" "libstd-rust-web-dev=$V" "libstd-rust-web-${VER%.*}=$V" libllvm22 >&2
rm -rf "$TC/x" "$T"; mkdir -p "$TC/x" "$T/bin" "$T/lib/rustlib/$H/bin" "$T/lib/rustlib/src"
for d in rustc-web libstd-rust-web libllvm22; do for f in ${d}*.deb; do dpkg -x "$f" "$TC/x"; done; done
# of the 434 MB source package only library/ (69 MB) is needed
dpkg --fsys-tarfile rust-web-src_*.deb | tar x -C "$TC/x" "./usr/src/rustc-$VER/library"
X=$TC/x/usr
mv "$X/bin/rustc" "$X/bin/rustdoc" "$T/bin/"
mv "$X/lib/x86_64-linux-gnu/"librustc_driver-*.so "$T/lib/"
cp -aL "$X/lib/x86_64-linux-gnu/libLLVM.so.22.1" "$T/lib/libLLVM.so.22.1"
mkdir -p "$T/lib/rustlib/$H/lib"
cp -aL "$X/lib/rustlib/$H/lib/." "$T/lib/rustlib/$H/lib/"
mv "$X/src/rustc-$VER" "$T/lib/rustlib/src/rust"
# linker: the rust-lld of the installed rustup toolchain (else: apt-get install lld-22; ln -s)
S=$(rustc --print sysroot)
# must be a symlink: its RUNPATH is $ORIGIN/../../.. and has to reach that toolchain's own libLLVM
ln -sfn "$S/lib/rustlib/$H/bin/rust-lld" "$T/lib/rustlib/$H/bin/rust-lld"
rm -rf "$TC/x"
ln -sfn "$S/bin/cargo" "$T/bin/cargo"
rustup toolchain link "$NAME" "$T"
build_core $TARGETS
rm -rf "$TC/deb"
log "done: $(du -sh "$T" | cut -f1) in $T"
echo "+$NAME"
