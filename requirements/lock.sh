#!/bin/sh
# Writes the lock files from pyproject.toml; run as `make lock`. UV names the uv program.
#   dev.lock    every version, for pip's -c: torch without local suffix and without its CUDA
#               packages, so that pip may take the CPU build of the same version
#   serve.lock  what the container image installs, each file by hash
#   serve-otel.lock  the same, and what traces need
set -eu
cd "$(dirname "$0")/.."
compile() {
  "$UV" pip compile pyproject.toml --quiet --universal --python-version 3.11 --no-config \
    --index-url https://pypi.org/simple --exclude-newer "1 week" --custom-compile-command "make lock" "$@"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compile --extra dev --no-annotate --output-file "$work/all.lock" "${UPGRADE:---upgrade}"
grep -Ev '^(nvidia-|cuda-|triton)' "$work/all.lock" >requirements/dev.lock
hashed() {
  compile "$@" --generate-hashes --no-annotate -c requirements/dev.lock
}
hashed --extra calendars --output-file "$work/serve.lock"
hashed --extra calendars --extra otel --output-file "$work/serve-otel.lock"
cp "$work/serve.lock" "$work/serve-otel.lock" requirements/
