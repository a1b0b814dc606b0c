#!/bin/sh
# Builds the hostile image: one static binary on an empty root, and a copy of it that belongs to root and has the
# set-user-id bit, for the bot to try. Needs this workspace's Rust toolchain and no network.
#
# Contract and cache: ../lib.sh and ../static.sh. Cold about half a minute.
set -eu
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../static.sh"
here=$root/packaging/images/hostile

key=$(hash_of "$here" "$root/packaging/images/lib.sh" "$root/packaging/images/static.sh")
published hostile "$key" && exit 0
[ "${1:-}" != --cached ] || exit 3

mkdir -p "$cache"
exec 9>"$cache/hostile.lock"
flock 9
published hostile "$key" && exit 0

work=$cache/hostile-$key
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
rm -rf "$work"
bot_root "$work"
static_binary hostile "$work/hostile"
# Owned by root first: changing the owner clears the bit.
cp "$work/hostile" "$work/hostile-as-root"
chown 0:0 "$work/hostile-as-root"
chmod 4755 "$work/hostile-as-root"
import_bot "$work" "$REGISTRY/hostile:$key" /hostile
publish hostile "$key"
