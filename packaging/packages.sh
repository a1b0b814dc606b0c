#!/bin/sh
# packages.sh BINARIES MANUAL OUT [VERSION]: makes deb and rpm of agent, coordinator and command in OUT.
#
# BINARIES holds the three programs, MANUAL what `manual` wrote. One tree is staged for each package and both kinds are
# made of it; the same input makes the same bytes. VERSION is for tests; the packages' own is Cargo.toml's.
#
#   deb/PACKAGE/control, postinst, prerm, postrm      what only Debian's packages have
#   rpm/launchpad.spec                                what only the others have
#   scripts/                                          what both kinds do to a host: shell, put in at each `@include`
#   etc/, lib/, ../systemd/                           what is installed as it lies there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
packages='launchpad-agent launchpad-coordinator launchpad'

fail() {
    echo "packages: $*" >&2
    exit 1
}

[ $# -ge 3 ] || fail "usage: packages.sh BINARIES MANUAL OUT [VERSION]"
binaries=$(cd "$1" && pwd) manual=$(cd "$2" && pwd)
mkdir -p "$3"
out=$(cd "$3" && pwd)

released=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
logged=$(sed -n '1s/^launchpad (\(.*\)) .*/\1/p' "$here/changelog")
[ "$logged" = "$released" ] ||
    fail "Cargo.toml says $released and packaging/changelog $logged; put an entry for $released at the changelog's top"
# A `~` sorts before the release that it leads to, in both kinds of packages.
version=$(echo "${4:-$released}" | tr - '~')

# The date of everything inside: that of the last commit; of a tree without history, that of the last change.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null ||
    date -d "$(sed -n 's/^ -- .*>  //p' "$here/changelog" | head -n 1)" +%s)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

work=$(mktemp -d "${TMPDIR:-/tmp}/launchpad-packages.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# A script with what it includes in its place.
assemble() {
    awk -v dir="$here" '
        $1 == "@include" { file = dir "/" $2; while ((got = (getline line < file)) > 0) print line; if (got < 0) exit 1; close(file); next }
        { print }' "$1" || fail "$1 includes what is not there"
}

# install_as MODE FILE PLACE
install_as() { install -D -m "$1" "$2" "$3"; }

# Units go by their names to the package whose program they run.
stage_units() {
    for unit in "$root"/systemd/*.*; do
        case $(basename "$unit") in
        *.md) continue ;;
        *coordinator*) owner=launchpad-coordinator ;;
        *) owner=launchpad-agent ;;
        esac
        [ "$owner" != "$1" ] || install_as 644 "$unit" "$2/usr/lib/systemd/system/$(basename "$unit")"
    done
}

# The manual of program $1: a page for it and one for each of its subcommands.
stage_manual() {
    for page in "$manual/man/$1"/*; do
        [ -e "$page" ] || fail "$manual holds no manual of $1; make it: manual $manual"
        section=man${page##*.}
        mkdir -p "$2/usr/share/man/$section"
        gzip -9n <"$page" >"$2/usr/share/man/$section/$(basename "$page").gz"
    done
    install_as 644 "$manual/completions/$1.bash" "$2/usr/share/bash-completion/completions/$1"
    install_as 644 "$manual/completions/$1.fish" "$2/usr/share/fish/vendor_completions.d/$1.fish"
}

stage() {
    install_as 755 "$binaries/$1" "$2/usr/bin/$1"
    stage_manual "$1" "$2"
    stage_units "$1" "$2"
    for kind in sysusers tmpfiles; do
        [ ! -e "$here/lib/$kind.d/$1.conf" ] ||
            install_as 644 "$here/lib/$kind.d/$1.conf" "$2/usr/lib/$kind.d/$1.conf"
    done
    [ ! -e "$here/etc/${1#launchpad-}.toml" ] ||
        install_as 644 "$here/etc/${1#launchpad-}.toml" "$2/etc/launchpad/${1#launchpad-}.toml"
}

# The changelog's first entry is this version's, also when a test asks for another.
changelog() { sed "1s/($released)/($version)/" "$here/changelog"; }

deb() {
    tree=$work/deb/$1
    mkdir -p "$work/deb"
    cp -a "$work/stage/$1" "$tree"
    install_as 644 "$manual/completions/_$1" "$tree/usr/share/zsh/vendor-completions/_$1"
    install_as 644 "$here/deb/copyright" "$tree/usr/share/doc/$1/copyright"
    changelog | gzip -9n >"$tree/usr/share/doc/$1/changelog.gz"
    [ ! -e "$here/deb/$1/lintian-overrides" ] ||
        install_as 644 "$here/deb/$1/lintian-overrides" "$tree/usr/share/lintian/overrides/$1"

    control=$tree/DEBIAN
    mkdir "$control"
    (cd "$tree" && find etc -type f 2>/dev/null | sort | sed 's|^|/|') >"$control/conffiles" || true
    [ -s "$control/conffiles" ] || rm "$control/conffiles"
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -print | sort | sed 's|^\./||' | tr '\n' '\0' |
        xargs -0 md5sum) >"$control/md5sums"
    kib=$(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)
    sed "s/@VERSION@/$version/; s/@KIB@/$kib/" "$here/deb/$1/control" >"$control/control"
    for script in postinst prerm postrm; do
        [ -e "$here/deb/$1/$script" ] || continue
        assemble "$here/deb/$1/$script" >"$control/$script"
        chmod 755 "$control/$script"
    done
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$tree" "$out/$1_${version}_amd64.deb" >/dev/null
}

rpms() {
    for package in $packages; do
        mkdir -p "$work/rpm/$package"
        cp -a "$work/stage/$package/." "$work/rpm/$package"
        install_as 644 "$manual/completions/_$package" "$work/rpm/$package/usr/share/zsh/site-functions/_$package"
        find "$work/rpm/$package" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    done
    # In a spec every `%` of a script would be a macro.
    awk -v dir="$here" '
        $1 == "@include" { file = dir "/" $2; while ((got = (getline line < file)) > 0) { gsub(/%/, "%%", line); print line }
            if (got < 0) exit 1; close(file); next }
        { print }' "$here/rpm/launchpad.spec" >"$work/launchpad.spec" || fail "rpm/launchpad.spec includes what is not there"
    echo '%changelog' >>"$work/launchpad.spec"
    changelog | rpm_changelog >>"$work/launchpad.spec"
    rpmbuild -bb --quiet --nodebuginfo --target x86_64-linux --dbpath "$work/rpmdb" \
        --define "_topdir $work/rpmbuild" --define "_rpmdir $out" --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
        --define "staged $work/rpm" --define "shipped_version $version" --define "licence $root/LICENSE" \
        --define '_buildhost launchpad' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' --define '_binary_payload w9.xzdio' \
        "$work/launchpad.spec" >"$work/rpmbuild.log" 2>&1 || {
        cat "$work/rpmbuild.log" >&2
        fail "rpmbuild failed (log above)"
    }
}

# Debian's changelog in rpm's form: "* Mon Nov 23 2026 Name <mail> - version", then "- …".
rpm_changelog() {
    awk '
        /^launchpad \(/ { version = $2; gsub(/[()]/, "", version); text = ""; next }
        /^  \* / { text = text "- " substr($0, 5) "\n"; next }
        /^    / { text = text "  " substr($0, 5) "\n"; next }
        /^ -- / {
            sub(/^ -- /, ""); split($0, part, "  "); split(part[2], day, /[ ,]+/)
            printf "* %s %s %s %s %s - %s-1\n%s\n", day[1], day[3], day[2], day[4], part[1], version, text
        }' | sed 's/%/%%/g'
}

for package in $packages; do stage "$package" "$work/stage/$package"; done
rm -f "$out"/launchpad*.deb "$out"/launchpad*.rpm
for package in $packages; do deb "$package"; done
rpms
