#!/bin/sh
# setup.sh build|demo-echo|demo|test|vm|packages: installs the Debian packages that this needs, on Debian 12 or later, as root.
#
# Called first by every Makefile target that runs something; run again, it finds everything and says nothing.
# It installs programs only: no service is started (the demo and the tests run their own, private ones), and
# the machine's own Docker, Postgres or registry, running or not, are never touched.
set -eu

# Which rows of the list below this run looks at. Tests and bench run the echo bot; only the whole demo builds openclaw.
case ${1:-} in
build) scopes='build' ;;
demo-echo) scopes='build run' ;;
demo) scopes='build run openclaw' ;;
test) scopes='build run test lint' ;;
vm) scopes='build run vm' ;;
packages) scopes='build lint release' ;;
*)
    echo "usage: setup.sh build|demo-echo|demo|test|vm|packages" >&2
    exit 2
    ;;
esac

# Each line: who needs it, the package, a program it must provide, and what for. A program that is there already,
# wherever it came from, is good enough: of npm that matters, since Debian's brings several hundred packages.
wanted() {
    cat <<'LIST'
build     gcc              cc                C compiler for the SQLite and TLS crates
build     libc6-dev        /usr/include/stdio.h  headers for them
run       docker.io        dockerd           the container engine
run       containerd       containerd        its runtime, run apart so that dockerd can be killed alone
run       docker.io        docker            the client that builds images
run       docker-registry  docker-registry   the local image registry
run       nftables         nft               the tenants' firewall and NAT
run       iptables         iptables          dockerd refuses to start without it
run       iproute2         ip                network namespaces and links
run       util-linux       nsenter           starts daemons inside a namespace
run       mount            losetup           volumes: filesystems in files
run       e2fsprogs        mkfs.ext4         makes, checks and grows them
run       caddy            caddy             HTTPS for the bots' public names
run       curl             curl              asks the registry what it has
run       ca-certificates  /etc/ssl/certs/ca-certificates.crt  trust for the package mirrors
openclaw  debootstrap      debootstrap       the root of the openclaw image
openclaw  xz-utils         xz                unpacks Debian packages
openclaw  npm              npm               fetches the openclaw package
test      xfsprogs         mkfs.xfs          volumes on the other filesystem that they know
test      btrfs-progs      mkfs.btrfs        and on one that copies on write
test      faketime         faketime          a host whose clock is wrong
test      systemd          systemd-analyze   reads the units as a host would
test      postgresql       /usr/lib/postgresql/*/bin/initdb  the second database of the store's tests
lint      rpm              rpmbuild          the packages that are not Debian's
lint      lintian          lintian           finds what is wrong with a package
lint      rpmlint          rpmlint           and with one of the other kind
release   binutils         objdump           which glibc a program needs
release   python3-venv     /usr/lib/python3*/ensurepip  where zig and cargo-zigbuild are put, which PyPI has
release   mmdebstrap       mmdebstrap        a fresh Debian that the agent is installed on
vm        mmdebstrap       mmdebstrap        the root of the guests
vm        qemu-system-x86  qemu-system-x86_64  the guests' machine
vm        qemu-utils       qemu-img          a disk for each of them on top of one root
vm        openssh-client   ssh               the way into a guest
vm        e2fsprogs        mke2fs            the guests' root filesystem
vm        xfsprogs         mkfs.xfs          the disk of their volumes
vm        faketime         faketime          a coordinator that is a day ahead
LIST
}

# Is there a program (or, for a path, a file; it may hold a wildcard) of this name?
present() {
    case $1 in
    /*)
        for found in $1; do [ -e "$found" ] && return 0; done
        return 1
        ;;
    *) PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing=$(wanted | while read -r scope package program reason; do
    case " $scopes " in *" $scope "*) present "$program" || echo "$package $reason" ;; esac
done)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "setup: packages are missing and only root can install them; run this again with sudo:" >&2
    echo "$missing" | sed 's/ /: /; s/^/  /' >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: this is not Debian (no apt-get); install these yourself, then run this again:" >&2
    echo "$missing" | sed 's/ /: /; s/^/  /' >&2
    exit 1
fi

# While this file answers 101, maintainer scripts start no service. One that the machine has already is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

log=$(mktemp "${TMPDIR:-/tmp}/launchpad-setup.XXXXXX")
export DEBIAN_FRONTEND=noninteractive
# Another apt (unattended upgrades, a parallel build) may hold the lock for minutes: wait for it.
apt="apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold"

echo "setup: refreshing the package lists"
# A third-party source that is out of order must not stop us: what matters is that the installs below work.
if ! $apt update >"$log" 2>&1; then
    echo "setup: apt-get update complained; going on with what it did fetch:"
    tail -n 3 "$log"
fi

echo "$missing" | awk '!seen[$1]++' | while read -r package reason; do
    echo "setup: installing $package ($reason)"
    if ! $apt install --no-install-recommends "$package" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        echo "setup: could not install $package; the whole log is $log. Mend apt, then run this again." >&2
        exit 1
    fi
done
rm -f "$log"
