# What the agent's packages know of a host. It may have bots, and those are never touched from here: they run on while
# the agent is upgraded, removed or half installed, and so does the gate, which guards what they may reach.
#
# Agent and gate are enabled by `launchpad-agent enroll`, not by a package: before it there is nothing for them to do.

# What a removal leaves for the gate to run from. Not in the agent's own directory, which may be a disk of its own without
# the right to execute.
kept=/var/lib/launchpad-kept
# Where a unit counts more than the package's, and is still there when that is gone.
own_units=/etc/systemd/system
package_units=/usr/lib/systemd/system
program=/usr/bin/launchpad-agent
# What bots need although no agent is there.
lasting='launchpad-gate.service launchpad-caddy.service'
# The first line of a unit of ours in a place where the operator keeps theirs.
ours='# Kept when launchpad-agent was removed, because bots are on this host. Goes when it is installed again.'
# How long Docker may take to say what runs, in seconds.
docker_patience=20

say() { echo "launchpad-agent: $*"; }

under_systemd() { [ -d /run/systemd/system ]; }

# What an operator may have moved.
setting() {
    for file in /etc/launchpad/agent.toml "$kept/agent.toml"; do
        [ ! -e "$file" ] || sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" "$file"
    done | head -n 1
}

data_dir() {
    told=$(setting data_dir)
    echo "${told:-/var/lib/launchpad-agent}"
}

run_dir() {
    told=$(setting run_dir)
    echo "${told:-/run/launchpad-agent}"
}

# Names of the volumes of bots, copies included: a bot's directory goes only with all of them.
volumes() {
    for volume in "$(data_dir)"/volumes/*/; do
        [ ! -d "$volume" ] || basename "$volume"
    done
}

# A line for each bot that Docker knows, and whether it runs. Fails if Docker does not answer.
bots() {
    command -v docker >/dev/null 2>&1 || return 1
    timeout "$docker_patience" docker ps --all --filter label=launchpad.deployment --format '{{.Names}}  {{.Status}}' 2>/dev/null
}

# Docker's silence does not mean that there are none: whoever has a volume is known without it.
has_bots() { [ -n "$(volumes)" ] || [ -n "$(bots)" ]; }

is_ours() { [ -e "$own_units/$1" ] && [ "$(head -n 1 "$own_units/$1")" = "$ours" ]; }

reload() { if under_systemd; then systemctl --quiet daemon-reload || true; fi; }

# A unit that starts at boot leads to where it now lies; one that does not is left alone.
lead_to() {
    for link in "$own_units"/*.wants/"$2"; do
        [ ! -L "$link" ] || ln -sfn "$1/$2" "$link"
    done
}

# A purge takes the settings away before it asks where the data is.
keep_settings() {
    mkdir -p -m 700 "$kept"
    [ ! -e /etc/launchpad/agent.toml ] || cp /etc/launchpad/agent.toml "$kept/agent.toml"
}

# Lets gate and Caddy outlive the package: the program, its settings and their units stay, all of it whole or not at all.
keep_what_bots_need() {
    cp "$program" "$kept/launchpad-agent.new"
    mv -f "$kept/launchpad-agent.new" "$kept/launchpad-agent"
    told=
    [ ! -e "$kept/agent.toml" ] || told=" --config $kept/agent.toml"
    for unit in $lasting; do
        # An operator's own unit of that name stays theirs.
        if [ -e "$own_units/$unit" ] && ! is_ours "$unit"; then continue; fi
        { echo "$ours"; sed "s|$program gate|$kept/launchpad-agent gate$told|" "$package_units/$unit"; } >"$own_units/$unit.new"
        mv -f "$own_units/$unit.new" "$own_units/$unit"
        lead_to "$own_units" "$unit"
    done
}

# Takes back what a removal kept: the package's own units count again. Nothing is stopped: what runs from there runs on.
forget_what_was_kept() {
    for unit in $lasting; do
        ! is_ours "$unit" || rm -f "$own_units/$unit"
        lead_to "$package_units" "$unit"
    done
    rm -rf "$kept"
}

# Whether the gate runs from other bytes than those installed. Its process knows, also when its file is gone.
gate_is_of_another_build() {
    pid=$(systemctl show --property MainPID --value launchpad-gate.service 2>/dev/null) || return 1
    [ -n "$pid" ] && [ "$pid" != 0 ] && ! cmp -s "/proc/$pid/exe" "$program"
}

# After files were put in place: `fresh`, or instead of others. What a removal has kept is what tells that they are back,
# because dpkg remembers the version of a package that it has removed as if it were being upgraded. A service that the operator has stopped
# stays stopped. The gate goes first, because the agent talks to it; its rules stay while it is away.
take_up_work() {
    fresh=$1
    [ ! -d "$kept" ] || fresh=fresh
    forget_what_was_kept
    if command -v systemd-tmpfiles >/dev/null 2>&1; then
        systemd-tmpfiles --create launchpad-agent.conf || true
    fi
    under_systemd || return 0
    reload
    if gate_is_of_another_build; then
        systemctl try-restart launchpad-gate.service || say "the gate did not start again; see: systemctl status launchpad-gate"
    fi
    for unit in $lasting launchpad-agent.service; do
        # Removed and back: what `enroll` has enabled goes on where it was.
        if [ "$fresh" = fresh ] && systemctl --quiet is-enabled "$unit" 2>/dev/null; then
            systemctl start "$unit" || say "$unit did not start; see: systemctl status $unit"
        fi
    done
    [ "$fresh" = fresh ] || systemctl try-restart launchpad-agent.service ||
        say "the agent did not start again; see: systemctl status launchpad-agent"
}

# Before the program goes. What bots need is made to last first: who is interrupted in between has too much, not too little.
leave() {
    keep_settings
    if has_bots; then
        keep_what_bots_need
        reload
        if under_systemd; then systemctl stop launchpad-agent.service || true; fi
        tell_what_runs_on
    else
        # shellcheck disable=SC2086 # several units
        if under_systemd; then systemctl stop launchpad-agent.service $lasting || true; fi
    fi
}

tell_what_runs_on() {
    say "the agent goes; the bots of this host stay as they are:"
    if found=$(bots); then
        echo "$found" | sed 's/^./  &/'
    else
        echo "  (Docker does not answer; these have data here)"
        volumes | sed 's/^/  /'
    fi
    cat <<TOLD
  What runs, runs on, behind the same rules: the gate stays, from $kept.
  Nobody starts a bot again that ends or that a reboot stops. Until the agent is back:
    docker ps --all --filter label=launchpad.deployment     which there are
    docker logs NAME, docker stop NAME, docker start NAME   one of them; start only if the host was not rebooted since
  To come back, install launchpad-agent again: it takes every bot up as it finds it.
  Their data is in $(data_dir); no removal and no purge takes it away.
TOLD
}

# For what is taken away for good, and only when no bot is left.
clear_away() {
    # shellcheck disable=SC2086 # several units
    if under_systemd; then systemctl stop $lasting 2>/dev/null || true; fi
    data=$(data_dir) run=$(run_dir)
    forget_what_was_kept
    for unit in launchpad-agent.service launchpad-upgrade.service $lasting; do
        for link in "$own_units"/*.wants/"$unit"; do
            [ ! -L "$link" ] || rm -f "$link"
        done
    done
    reload
    if command -v nft >/dev/null 2>&1; then nft delete table inet launchpad 2>/dev/null || true; fi
    ! mountpoint -q "$run/files" 2>/dev/null || umount "$run/files" || true
    rm -rf --one-file-system "$run"
    # The first may be a mount point, and cannot go itself then.
    for dir in "$data" /var/lib/launchpad-upgrade /var/lib/launchpad-caddy /var/lib/launchpad-caddy-data; do
        [ ! -d "$dir" ] || find "$dir" -xdev -mindepth 1 -delete
        [ ! -d "$dir" ] || rmdir "$dir" 2>/dev/null || true
    done
}

tell_what_is_kept() {
    data=$(data_dir)
    say "this host still has bots, so their data, the host's identity and the gate stay."
    if [ -n "$(volumes)" ]; then
        echo "  Data of these is in $data/volumes:"
        volumes | sed 's/^/    /'
    fi
    cat <<TOLD
  To go on with them, install launchpad-agent again.
  To give them up for good, with all their data:
    install launchpad-agent again
    launchpad-agent evict --yes --data DEPLOYMENT   for each of them
    and purge it again
TOLD
}
