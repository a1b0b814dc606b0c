#!/bin/sh
# build.sh: makes the root of `make test-vm`'s guests, as root, and prints the folder that holds it.
#
#   target/guest/<hash>/{root.img,vmlinuz,initrd.img,packages}
#
# The hash is of this folder's files: a second run finds what is there. Everything comes from Debian's mirrors now, so
# that no guest ever has to ask for anything. Nothing in it is of one guest: addresses, keys and packages come at its
# first boot from a disk that its run attaches (`seed.service`).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
cache=${LAUNCHPAD_CACHE:-$target/guest}

# The size of the root filesystem. Sparse: what a guest does not write takes no room.
root_bytes=4G
suite=bookworm

hash=$(cd "$here" && cat packages build.sh customize.sh seed.service seed.sh | sha256sum | cut -c1-16)
image=$cache/$hash
if [ -e "$image/root.img" ]; then
    echo "$image"
    exit 0
fi

mkdir -p "$cache"
# Two runs at once: the second waits, then finds what the first one made.
exec 9>"$cache/build.lock"
flock 9
if [ -e "$image/root.img" ]; then
    echo "$image"
    exit 0
fi

work=$(mktemp -d "$cache/build.XXXXXX")
# An interrupted build may leave /proc and /sys mounted in there: those are the machine's own.
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM HUP

packages=$(sed 's/#.*//' "$here/packages" | tr -s ' \n' ',' | sed 's/^,//; s/,$//')
echo "guest: fetching and unpacking Debian $suite (four minutes at the first time)" >&2
mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="$here/customize.sh" "$suite" "$work/root" >&2

mkdir "$work/image"
cp -L "$work/root/vmlinuz" "$work/image/vmlinuz"
cp -L "$work/root/initrd.img" "$work/image/initrd.img"
# What exactly is in it, for whoever compares two images.
dpkg-query --admindir="$work/root/var/lib/dpkg" -W >"$work/image/packages"
echo "guest: making the root filesystem" >&2
truncate -s "$root_bytes" "$work/image/root.img"
mke2fs -q -t ext4 -L root -E assume_storage_prezeroed=1,root_owner=0:0 -d "$work/root" "$work/image/root.img"

# Older images go: nothing asks for them any more.
find "$cache" -mindepth 1 -maxdepth 1 -type d ! -path "$work" -exec rm -rf {} +
mv "$work/image" "$image"
echo "$image"
