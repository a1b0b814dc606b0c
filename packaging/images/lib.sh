# What both image builds share; sourced by */build.sh, never run.
#
# The contract of a build script: DOCKER_HOST names the engine to build with, REGISTRY (host:port) the registry to
# push to; progress goes to stderr and the last line on stdout is REPOSITORY@sha256:DIGEST. The registry is the
# cache: an image whose inputs have not changed and which the registry still holds is not built again. With --cached
# nothing is built at all: exit code 3 says that there is something to build.

root=$(cd "$(dirname "$0")/../../.." && pwd)
# CARGO_TARGET_DIR moves build products elsewhere, as it does for cargo.
target=${CARGO_TARGET_DIR:-$root/target}
cache=$target/images
# The legacy builder is in every Docker from 20.10 on; buildx is a plugin that Debian does not ship.
export DOCKER_BUILDKIT=0

: "${DOCKER_HOST:?names the engine to build with, such as unix:///path/to/docker.sock}"
: "${REGISTRY:?names the registry to push to, as host:port}"

say() { echo "image: $*" >&2; }

fail() {
    echo "image: $*" >&2
    exit 1
}

# One hash over the files that decide what the image holds. Arguments: files and directories.
hash_of() {
    find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | cut -d' ' -f1 | sha256sum | cut -c1-16
}

# Print the reference and succeed if the registry holds image $1 as it was built from inputs $2.
published() {
    digest_file=$cache/$1-$2.digest
    [ -s "$digest_file" ] || return 1
    digest=$(cat "$digest_file")
    curl -fsS -o /dev/null --noproxy '*' --max-time 10 -I \
        -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
        "http://$REGISTRY/v2/$1/manifests/$digest" 2>/dev/null || return 1
    echo "$REGISTRY/$1@$digest"
}

# Push the local image $REGISTRY/$1:$2, remember its digest under inputs $2, print the reference.
publish() {
    name=$REGISTRY/$1
    say "pushing $name:$2"
    docker push "$name:$2" >&2
    digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$name:$2" |
        sed -n "s|^$name@||p" | head -n 1)
    [ -n "$digest" ] || fail "pushed $name:$2, but the engine reports no digest for it"
    echo "$digest" >"$cache/$1-$2.digest"
    echo "$name@$digest"
}
