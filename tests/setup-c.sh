#!/usr/bin/env bash
# Installs the C compiler for Arm where it can be: on Debian, as root or with sudo. Without it the firmware in C is not run,
# and its test says so.
set -euo pipefail
if command -v arm-none-eabi-gcc >/dev/null; then arm-none-eabi-gcc --version | head -1; exit 0; fi
SUDO=
[ "$(id -u)" = 0 ] || SUDO="sudo -n"
if command -v apt-get >/dev/null && $SUDO apt-get install -y -qq --no-install-recommends gcc-arm-none-eabi >/dev/null; then
  arm-none-eabi-gcc --version | head -1
else
  echo "SKIPPED: no arm-none-eabi-gcc here; install it with your package manager (Debian, Ubuntu: gcc-arm-none-eabi)"
fi
