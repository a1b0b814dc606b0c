#!/bin/sh
# Installs the Debian packages that `make demo` and `make test` need, on Debian 12 or later, as root.
#
# Called first by every Makefile target that runs something; run again, it finds everything and says nothing.
# It installs programs only: no service is started (the demo and the tests run their own, private ones), and
# the machine's own Docker, Postgres or registry, running or not, are never touched.
set -eu

# Each line: the package, a program it must provide, and what needs it. A program that is there already,
# wherever it came from, is good enough.
wanted() {
    cat <<'LIST'
gcc              cc                C compiler for the SQLite and TLS crates
libc6-dev        /usr/include/stdio.h  headers for them
docker.io        dockerd           the container engine
containerd       containerd        its runtime, run apart so that dockerd can be killed alone
docker.io        docker            the client that builds images
docker-registry  docker-registry   the local image registry
nftables         nft               the tenants' firewall and NAT
iptables         iptables          dockerd refuses to start without it
iproute2         ip                network namespaces and links
util-linux       nsenter           starts daemons inside a namespace
faketime         faketime          a host whose clock is wrong
debootstrap      debootstrap       the root of the openclaw image
curl             curl              asks the registry what it has
xz-utils         xz                unpacks Debian packages
ca-certificates  /etc/ssl/certs/ca-certificates.crt  trust for the package mirrors
postgresql       /usr/lib/postgresql/*/bin/initdb  the second database of the store's tests
LIST
    # Any npm does; Debian's brings several hundred packages, so it is not asked for when one is there.
    echo 'npm npm fetches the openclaw package'
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

missing=$(wanted | while read -r package program reason; do
    present "$program" || echo "$package $reason"
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
