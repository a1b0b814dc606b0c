#!/bin/sh
# Builds the echo image: one static binary on an empty root. Needs this workspace's Rust toolchain and no network.
#
# Contract and cache: ../lib.sh. Cold about ten seconds.
set -eu
. "$(dirname "$0")/../lib.sh"
here=$root/packaging/images/echo

key=$(hash_of "$here" "$root/packaging/images/lib.sh")
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
# Mount points that a read-only root must already have, and a state folder that the bot's user may write to.
mkdir -p "$work/etc/launchpad/config" "$work/run/launchpad/secrets" "$work/tmp" "$work/state"
chmod 1777 "$work/tmp"
chown 1000:1000 "$work/state"

host=$(rustc -vV | sed -n 's/^host: //p')
say "cargo build of the static binary for $host"
# An explicit --target keeps the static flag away from build scripts; a target folder of its own keeps the
# workspace's cache from being rebuilt for another set of flags.
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --manifest-path "$root/Cargo.toml" \
    --target "$host" --target-dir "$target/echo" -p launchpad-echo >&2
cp "$target/echo/$host/release/launchpad-echo" "$work/echo"

name=$REGISTRY/echo:$key
say "importing $name"
tar -C "$work" --numeric-owner -cf - . | docker import \
    --change 'USER 1000:1000' --change 'ENTRYPOINT ["/echo"]' --change 'EXPOSE 8080' --change 'WORKDIR /' \
    - "$name" >/dev/null
publish echo "$key"
