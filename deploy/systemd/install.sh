#!/bin/sh
# Installs sqfd as a systemd service, or upgrades it. Safe to run again: it never touches an existing configuration.
#
#   sudo deploy/systemd/install.sh              venv under /opt/sqfd, user, directories, units; starts the service
#   sudo deploy/systemd/install.sh --no-start   the same without starting
#
# DESTDIR=/some/root installs files below that root and leaves users and services alone (packages, tests);
# SQFD_PYTHON names another Python (3.11 or newer).
set -eu
umask 022  # a root whose umask is tighter must not hide the program from the service's user

start=yes
venv=yes
for argument in "$@"; do
    case "$argument" in
        --no-start) start=no ;;
        --no-venv) venv=no ;;
        *) echo "usage: install.sh [--no-start] [--no-venv]" >&2; exit 2 ;;
    esac
done

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
root=${DESTDIR:-}
python=${SQFD_PYTHON:-python3}
opt=$root/opt/sqfd

fail() { echo "install.sh: $*" >&2; exit 1; }
version() { "$opt/bin/sqfd" --version 2>/dev/null | sed 's/.* //' || :; }
pip() { "$opt/bin/python" -m pip --quiet --disable-pip-version-check "$@" || fail "pip failed; what was installed before still runs"; }

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"
command -v "$python" >/dev/null || fail "no $python here: apt-get install python3, or name one with SQFD_PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed (SQFD_PYTHON)"
[ -n "$root" ] || command -v systemctl >/dev/null || fail "no systemd here: use \`make setup\` and run .venv/bin/sqfd"

if [ "$venv" = yes ]; then
    before=$(version)
    if ! "$opt/bin/python" -c 'import pip' 2>/dev/null; then  # the first time, or the system's Python has changed
        "$python" -c 'import ensurepip' 2>/dev/null || fail "python3-venv is missing: apt-get install python3-venv"
        "$python" -m venv --clear "$opt"
    fi
    pip install --require-hashes -r "$source/requirements.lock"
    # Built from a copy: nothing of root's stays in the checkout, nothing stale in the checkout gets into the build.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    (cd "$source" && tar -c --exclude=__pycache__ sqfd exchanges pyproject.toml README.md LICENSE) | tar -x -C "$copy"
    pip install --no-deps --no-build-isolation --force-reinstall "$copy"
    now=$(version)
    [ -n "$now" ] || fail "$opt/bin/sqfd does not run"
    echo "sqfd $now is in $opt${before:+ (it was $before)}"
fi

install -d "$root/etc/systemd/system" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc/sqfd" \
    "$opt/share/doc/decisions"
install -m 644 "$source"/docs/*.md "$opt/share/doc/"
install -m 644 "$source"/docs/decisions/*.md "$opt/share/doc/decisions/"
install -m 644 "$here/sqfd.service" "$here/sqfd@.service" "$root/etc/systemd/system/"
install -m 644 "$here/sqfd.sysusers" "$root/usr/lib/sysusers.d/sqfd.conf"
install -m 644 "$here/sqfd.tmpfiles" "$root/usr/lib/tmpfiles.d/sqfd.conf"
if [ ! -e "$root/etc/sqfd/sqfd.toml" ]; then
    install -m 640 "$source/sqfd.toml" "$root/etc/sqfd/sqfd.toml"
    echo "configuration: $root/etc/sqfd/sqfd.toml (defaults; every line may be changed or left out)"
fi

[ -z "$root" ] || exit 0

systemd-sysusers /usr/lib/sysusers.d/sqfd.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/sqfd.conf
chgrp sqfd /etc/sqfd/*.toml
ln -sf /opt/sqfd/bin/sqfd /usr/local/bin/sqfd
for config in /etc/sqfd/*.toml; do
    sqfd config validate -c "$config" >/dev/null || fail "correct $config, then run this again"
done
systemctl --quiet enable sqfd.service
if [ ! -d /run/systemd/system ]; then  # sd_booted(3): an image is being made
    echo "systemd does not run here: sqfd starts with the next boot"
    exit 0
fi
systemctl daemon-reload
if [ "$start" = yes ]; then
    systemctl restart sqfd.service || fail "it does not start: journalctl -u sqfd -n 20 says why"
    systemctl try-restart 'sqfd@*.service'
    echo "sqfd runs: journalctl -u sqfd -f, sqfd status, http://127.0.0.1:8686/"
fi
