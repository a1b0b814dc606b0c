#!/bin/sh
# release.sh: builds the three programs as they are shipped, and prints the directory that they lie in.
#
# They are linked against an old glibc, so that one build serves Debian 12, Ubuntu 22.04, RHEL 9 and Amazon Linux 2023:
# zig brings that glibc's symbols, cargo-zigbuild makes a linker and a C compiler of it, and both come from PyPI. Paths of
# this machine are mapped away, so that another checkout on another machine makes the same bytes.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
tools=$target/packages-tools
build=$target/packages-build

# The oldest of those four systems that still gets updates of its own has this one.
glibc=2.34
triple=x86_64-unknown-linux-gnu
# Another version makes other bytes.
wanted='cargo-zigbuild==0.24.0 ziglang==0.17.1'

fail() {
    echo "release: $*" >&2
    exit 1
}

if [ "$(cat "$tools/made-of" 2>/dev/null)" != "$wanted" ]; then
    echo "release: fetching $wanted" >&2
    rm -rf "$tools"
    python3 -m venv "$tools" || fail "python3 makes no venv; packaging/setup.sh packages installs what it needs"
    # Two words, two requirements.
    # shellcheck disable=SC2086
    "$tools/bin/pip" install --quiet --only-binary :all: $wanted >&2 || fail "PyPI has no $wanted for this machine"
    echo "$wanted" >"$tools/made-of"
fi

cargo_home=${CARGO_HOME:-$HOME/.cargo}
# C compilers are told the paths in variables that are split at blanks.
case $root$build$cargo_home in
*' '*) fail "no path of the checkout or of cargo may hold a blank: $root, $build, $cargo_home" ;;
esac
sysroot=$(rustc --print sysroot)
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
# The last of several that match counts. The unit separator is between flags, because a path may hold a blank.
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\037' \
    "--remap-path-prefix=$root=/launchpad" \
    "--remap-path-prefix=$build=/launchpad/target" \
    "--remap-path-prefix=$cargo_home=/cargo" |
    sed "s|\$|--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit|")
export CARGO_ENCODED_RUSTFLAGS
maps="-g0 -ffile-prefix-map=$build=/launchpad/target -ffile-prefix-map=$root=/launchpad -ffile-prefix-map=$cargo_home=/cargo"
export CFLAGS_x86_64_unknown_linux_gnu="$maps" CXXFLAGS_x86_64_unknown_linux_gnu="$maps"
# Flags of the caller's would be in the bytes.
unset RUSTFLAGS CFLAGS CXXFLAGS LDFLAGS

rustc_target=$(rustc --print target-libdir --target "$triple")
[ -d "$rustc_target" ] || fail "this Rust has no $triple; install it: rustup target add $triple"
PATH=$tools/bin:$PATH "$tools/bin/cargo-zigbuild" zigbuild --release --locked --manifest-path "$root/Cargo.toml" \
    --target "$triple.$glibc" --target-dir "$build" \
    -p launchpad-agent -p launchpad-coordinator -p launchpad --bins >&2

binaries=$build/$triple/release
for program in launchpad-agent launchpad-coordinator launchpad; do
    newest=$(objdump -T "$binaries/$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    [ "$(printf 'GLIBC_%s\n%s\n' "$glibc" "$newest" | sort -V | tail -n 1)" = "GLIBC_$glibc" ] ||
        fail "$program needs $newest and may need GLIBC_$glibc at most; see who: objdump -T $binaries/$program"
done
echo "$binaries"
