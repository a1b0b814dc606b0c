#!/bin/sh
# Builds the echo image: one static binary on an empty root. Needs this workspace's Rust toolchain and no network.
#
# Contract and cache: ../lib.sh and ../static.sh. Cold about ten seconds.
set -eu
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../static.sh"
here=$root/packaging/images/echo

key=$(hash_of "$here" "$root/packaging/images/lib.sh" "$root/packaging/images/static.sh")
published echo "$key" && exit 0
[ "${1:-}" != --cached ] || exit 3

mkdir -p "$cache"
exec 9>"$cache/echo.lock"
flock 9
published echo "$key" && exit 0

work=$cache/echo-$key
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
rm -rf "$work"
bot_root "$work"
static_binary echo "$work/echo"
import_bot "$work" "$REGISTRY/echo:$key" /echo
publish echo "$key"
