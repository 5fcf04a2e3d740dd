#!/bin/sh
# Installs sqfd as a systemd service, or upgrades it. Safe to run again: it never touches an existing configuration.
#
#   sudo deploy/systemd/install.sh              venv under /opt/sqfd, user, directories, unit; starts the service
#   sudo deploy/systemd/install.sh --no-start   the same without starting
#
# DESTDIR=/some/root installs files below that root and leaves users and services alone (packages, tests);
# SQFD_PYTHON names another Python (3.11 or newer).
set -eu

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

fail() { echo "install.sh: $*" >&2; exit 1; }

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed (SQFD_PYTHON)"

if [ "$venv" = yes ]; then
    "$python" -c 'import ensurepip' 2>/dev/null || fail "python3-venv is missing: apt-get install python3-venv"
    [ -x "$root/opt/sqfd/bin/python" ] || "$python" -m venv "$root/opt/sqfd"
    "$root/opt/sqfd/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$source/requirements.lock"
    "$root/opt/sqfd/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall "$source"
fi

install -d "$root/etc/systemd/system" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc/sqfd"
install -m 644 "$here/sqfd.service" "$here/sqfd@.service" "$root/etc/systemd/system/"
install -m 644 "$here/sqfd.sysusers" "$root/usr/lib/sysusers.d/sqfd.conf"
install -m 644 "$here/sqfd.tmpfiles" "$root/usr/lib/tmpfiles.d/sqfd.conf"
if [ ! -e "$root/etc/sqfd/sqfd.toml" ]; then
    install -m 640 "$source/sqfd.toml" "$root/etc/sqfd/sqfd.toml"
    echo "configuration: $root/etc/sqfd/sqfd.toml (defaults; every line may be changed or left out)"
fi

[ -z "$root" ] || exit 0

systemd-sysusers
systemd-tmpfiles --create /usr/lib/tmpfiles.d/sqfd.conf
chgrp sqfd /etc/sqfd/*.toml
/opt/sqfd/bin/sqfd config validate -c /etc/sqfd/sqfd.toml >/dev/null || fail "correct /etc/sqfd/sqfd.toml, then run this again"
ln -sf /opt/sqfd/bin/sqfd /usr/local/bin/sqfd
systemctl daemon-reload
systemctl --quiet enable sqfd.service
if [ "$start" = yes ]; then
    systemctl restart sqfd.service
    echo "sqfd runs: journalctl -u sqfd -f, sqfd status, http://127.0.0.1:8686/"
fi
