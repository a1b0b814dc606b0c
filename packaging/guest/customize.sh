#!/bin/sh
# customize.sh ROOT: what makes a Debian root a guest of `make test-vm`. Called by mmdebstrap, for build.sh.
set -eu
root=$1
here=$(cd "$(dirname "$0")" && pwd)

# A guest speaks to nobody of itself, and nothing runs while a test measures: no updates, no trimming, no waiting for links.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer logrotate.timer man-db.timer systemd-networkd-wait-online.service systemd-timesyncd.service \
    getty@tty1.service serial-getty@ttyS0.service caddy.service systemd-resolved.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Debian's link leads to a name server that is masked above. A guest's own world has none.
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"

# The machine's own identity and the keys of its sshd are made for each guest.
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*

cp "$here/seed.sh" "$root/usr/local/sbin/guest-seed"
chmod 755 "$root/usr/local/sbin/guest-seed"
cp "$here/seed.service" "$root/etc/systemd/system/guest-seed.service"
chroot "$root" systemctl --quiet enable guest-seed.service systemd-networkd.service ssh.service

# The volumes' disk is XFS with project quotas. The agent's whole folder is on it: snapshots share blocks with volumes.
mkdir -p "$root/var/lib/launchpad-agent"
chmod 700 "$root/var/lib/launchpad-agent"
cat >"$root/etc/fstab" <<'FSTAB'
/dev/vda  /                         ext4  errors=remount-ro  0 1
/dev/vdb  /var/lib/launchpad-agent  xfs   prjquota           0 0
FSTAB

# What a test asks a guest for after a reboot must still be there; a guest that is killed keeps all but the last seconds.
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nSyncIntervalSec=5s\n' >"$root/etc/systemd/journald.conf.d/guest.conf"
# Under emulation, beside a build, everything takes ten times as long.
printf '[Manager]\nDefaultTimeoutStartSec=600s\nDefaultTimeoutStopSec=120s\n' >"$root/etc/systemd/system.conf.d/guest.conf"
printf 'PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n' >"$root/etc/ssh/sshd_config.d/guest.conf"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
