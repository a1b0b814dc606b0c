# What the coordinator's packages do to a machine. No bot depends on the coordinator: hosts keep what they have while it
# is away. It is enabled by its operator, after `launchpad-coordinator init`.

data=/var/lib/launchpad-coordinator

say() { echo "launchpad-coordinator: $*"; }

under_systemd() { [ -d /run/systemd/system ]; }

reload() { if under_systemd; then systemctl --quiet daemon-reload || true; fi; }

take_up_work() {
    systemd-sysusers launchpad-coordinator.conf
    if command -v systemd-tmpfiles >/dev/null 2>&1; then
        systemd-tmpfiles --create launchpad-coordinator.conf || true
    fi
    under_systemd || return 0
    reload
    systemctl try-restart launchpad-coordinator.service ||
        say "the coordinator did not start again; see: systemctl status launchpad-coordinator"
}

leave() { if under_systemd; then systemctl stop launchpad-coordinator.service || true; fi; }

# A store is a whole fleet: its customers, its certificate authority, the keys of every secret.
clear_away() {
    for link in /etc/systemd/system/*.wants/launchpad-coordinator.service; do
        [ ! -L "$link" ] || rm -f "$link"
    done
    reload
    [ -d "$data" ] || return 0
    rmdir "$data" 2>/dev/null || {
        say "$data holds a fleet, with its authority and its keys, and stays."
        echo "  To give it up for good: rm -r $data"
    }
}
