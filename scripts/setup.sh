#!/usr/bin/env bash
# Checks that everything a build needs is here, and installs what is missing where it may:
# as root, on Debian or Ubuntu. Says nothing and changes nothing when all is there.
#
# cargo   builds Tidemill; the oldest version that does is `rust-version` in Cargo.toml.
# c++     builds RocksDB.
# libclang, and the headers that come with it, read RocksDB's C interface (bindgen).
# make, pkg-config and OpenSSL's headers build librdkafka. It brings zlib and zstd along.
# java and maven, with --with-kafka only, fetch and run the broker of the tests and of `make kafka`.
# node, npm and chromium, with --with-browser only, build the web page and use it in tests, which are skipped without them. A Node.js that is too old to build the page is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"

with_kafka=no with_browser=no
for argument in "$@"; do
  case $argument in
    --with-kafka) with_kafka=yes ;;
    --with-browser) with_browser=yes ;;
    *) printf 'setup: "%s" is not an option: there are --with-kafka and --with-browser\n' "$argument" >&2; exit 1 ;;
  esac
done

say() { printf 'setup: %s\n' "$*" >&2; }

# True if one of the paths given (unmatched globs stay as they are) exists.
any_exists() {
  local path
  for path in "$@"; do
    if [ -e "$path" ]; then return 0; fi
  done
  return 1
}

has_compiler() { command -v cc >/dev/null && command -v c++ >/dev/null; }

has_libclang() {
  if [ "$(uname)" = Darwin ]; then xcode-select -p >/dev/null 2>&1; return; fi
  if [ -n "${LIBCLANG_PATH:-}" ]; then any_exists "$LIBCLANG_PATH" "$LIBCLANG_PATH"/libclang*.so*; return; fi
  # Where bindgen looks. The digit keeps libclang-cpp, which is another library, out.
  local dir libraries=() headers=()
  for dir in /usr/lib* /usr/lib*/* /usr/lib*/llvm*/lib* /usr/local/lib* /usr/local/lib*/* /usr/local/llvm*/lib*; do
    libraries+=("$dir"/libclang.so* "$dir"/libclang-[0-9]*.so*)
    headers+=("$dir"/clang/*/include/stddef.h)
  done
  any_exists "${libraries[@]}" && any_exists "${headers[@]}"
}

has_openssl() {
  if [ -n "${OPENSSL_DIR:-}" ]; then any_exists "$OPENSSL_DIR/include/openssl/ssl.h"; return; fi
  if command -v pkg-config >/dev/null && pkg-config --exists openssl; then return; fi
  any_exists /usr/include/openssl/ssl.h /opt/homebrew/opt/openssl@3/include/openssl/ssl.h /usr/local/opt/openssl@3/include/openssl/ssl.h
}

# Kafka runs on Java 17 and newer. Before Java 9, versions began with "1.".
has_java() {
  local version
  version=$(java -version 2>&1 </dev/null | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1) || return 1
  [ -n "$version" ] && [ "$version" -ge 17 ]
}

# Sets `missing` to the packages, by their Debian names, of what is not here.
look() {
  missing=()
  has_compiler || missing+=(g++)
  has_libclang || missing+=(libclang-dev)
  command -v make >/dev/null || missing+=(make)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  has_openssl || missing+=(libssl-dev)
  if [ "$with_kafka" = yes ]; then
    has_java || missing+=(default-jre-headless)
    command -v mvn >/dev/null || missing+=(maven)
  fi
}

install_missing() {
  if [ "$(uname)" = Darwin ]; then
    say "missing (by the names of Debian's packages): ${missing[*]}"
    say "the compilers, libclang and make: xcode-select --install; the others: brew install pkg-config openssl@3 openjdk maven"
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    say "packages are missing (Debian's names): ${missing[*]}"
    say "install them, on Debian or Ubuntu: sudo apt-get install ${missing[*]}"
    say "on Fedora these may be gcc-c++, clang-devel, make, pkgconf, openssl-devel, java-latest-openjdk-headless and maven"
    say "on Arch gcc, clang, make, pkgconf, openssl, jre-openjdk-headless and maven"
    exit 1
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >&2; then
    say "apt-get could not install ${missing[*]}: its own message is above"
    exit 1
  fi
  look
  if [ ${#missing[@]} -gt 0 ]; then
    say "installed, but still not found: ${missing[*]}. If libclang is in an unusual place, set LIBCLANG_PATH to its folder"
    exit 1
  fi
}

# Not needed: the tests that use the page in a browser are skipped without one.
install_browser() {
  local skipped="the tests that use the page in a browser are skipped" wanted=()
  if ! command -v node >/dev/null; then wanted+=(nodejs npm); fi
  if ! any_exists /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome; then wanted+=(chromium); fi
  if [ ${#wanted[@]} -eq 0 ]; then return; fi
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    say "missing (Debian's names): ${wanted[*]}. $skipped"
    return
  fi
  apt-get update -qq </dev/null >&2 || true
  if [ "${wanted[0]}" = nodejs ] && [ "$(offered nodejs)" -lt 20 ]; then
    say "there is no Node.js, and the distribution's is too old (20.19 is needed): $skipped"
    return
  fi
  say "installing ${wanted[*]}"
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" </dev/null >&2; then
    say "they could not be installed: $skipped"
  fi
}

# The first number of the version of a package that apt-get would install; 0 if there is none.
offered() {
  local version
  version=$(apt-cache policy "$1" | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p')
  printf '%s' "${version:-0}"
}

check_cargo() {
  local needed found
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if ! command -v cargo >/dev/null || ! found=$(cargo --version 2>/dev/null </dev/null); then
    say "cargo $needed or newer is needed, and there is none"
    say "get it: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    exit 1
  fi
  found=$(cut -d ' ' -f 2 <<<"$found")
  if [ "$(printf '%s\n' "$needed" "${found%%-*}" | sort -V | head -n 1)" != "$needed" ]; then
    say "cargo $needed or newer is needed, here is $found"
    say "get it: rustup update stable (if cargo came with the system: https://rustup.rs)"
    exit 1
  fi
}

look
if [ ${#missing[@]} -gt 0 ]; then install_missing; fi
if [ "$with_browser" = yes ]; then install_browser; fi
check_cargo
