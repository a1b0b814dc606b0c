# How a test bot becomes an image: one static binary on an empty root; sourced after lib.sh by echo's and hostile's builds.

# Build the static binary of bot $1 and copy it to $2.
static_binary() {
    host=$(rustc -vV | sed -n 's/^host: //p')
    say "cargo build of the static binary for $host"
    # An explicit --target keeps the static flag away from build scripts; a target folder of its own keeps the
    # workspace's cache from being rebuilt for another set of flags.
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --manifest-path "$root/Cargo.toml" \
        --target "$host" --target-dir "$target/$1" -p "launchpad-$1" >&2
    cp "$target/$1/$host/release/launchpad-$1" "$2"
}

# A root with the mount points that a read-only root must already have, and a state folder that user 1000 may write to.
bot_root() {
    mkdir -p "$1/etc/launchpad/config" "$1/run/launchpad/secrets" "$1/tmp" "$1/state"
    chmod 1777 "$1/tmp"
    chown 1000:1000 "$1/state"
}

# Make the root $1 the image $2, whose only program is $3 and runs as user 1000 on port 8080.
import_bot() {
    say "importing $2"
    tar -C "$1" --numeric-owner -cf - . | docker import \
        --change 'USER 1000:1000' --change "ENTRYPOINT [\"$3\"]" --change 'EXPOSE 8080' --change 'WORKDIR /' \
        - "$2" >/dev/null
}
