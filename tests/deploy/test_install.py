"""The installer with all that it does: a real virtual environment from the lock, twice, and the daemon that came out of it.

About a minute, most of it downloads: `make soak`, or SQFD_INSTALL=1.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqfd.cli.demo import write_config
from sqfd.sim.process import SimulatedExchanges

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(not os.environ.get("SQFD_INSTALL"), reason="takes a minute: SQFD_INSTALL=1, or make soak"),
    pytest.mark.timeout(900),
]
SANDBOX = """
mount --bind / "$1" && mount -o remount,ro,bind "$1" && mount --bind "$2" "$1$2" && mount -t proc proc "$1/proc" \
  && mount -t tmpfs -o ro tmpfs "$1/home" && exec chroot "$1" setpriv --reuid 65534 --regid 65534 --clear-groups \
  --no-new-privs --bounding-set=-all --inh-caps=-all "$3" run -c "$2/sqfd.toml"
"""
"""ProtectSystem=strict, ProtectHome, User, NoNewPrivileges, CapabilityBoundingSet= and PrivateIPC by hand."""


def install(root: Path, python: str) -> str:
    environment = os.environ | {"DESTDIR": str(root), "SQFD_PYTHON": python}
    command = ["sh", str(ROOT / "deploy" / "systemd" / "install.sh")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Where it is installed; not below pytest's folder, which the service's user may not enter."""
    folder = Path("/var/tmp") / f"sqfd-install-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def test_it_installs_upgrades_and_leaves_the_checkout_alone(root: Path) -> None:
    """The first run makes a venv with exactly the locked packages; the second keeps it, and what was configured."""
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    before = sorted(ROOT.iterdir())
    first = install(root, python)
    assert "sqfd 0.1.0 is in" in first
    assert "configuration:" in first
    (root / "etc/sqfd/sqfd.toml").write_text("# mine\n")
    again = install(root, python)
    assert "(it was 0.1.0)" in again
    assert (root / "etc/sqfd/sqfd.toml").read_text() == "# mine\n"
    assert sorted(ROOT.iterdir()) == before
    checked = subprocess.run([root / "opt/sqfd/bin/python", "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_a_broken_venv_is_made_again(root: Path) -> None:
    """As after an upgrade of the system's Python."""
    python = root / "opt/sqfd/bin/python"
    python.unlink()
    install(root, "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable)
    assert subprocess.run([python, "-c", "import sqfd"], cwd="/").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a sandbox of mounts needs root")
def test_the_installed_daemon_runs_in_a_sandbox(root: Path) -> None:
    """As nobody, without rights, on a read-only system with one writable folder: READY, bars, and a clean stop."""
    state, jail = root / "state", root / "jail"
    for folder in (state, jail):
        folder.mkdir()
    names = ("BINANCE", "OKEX")
    with (
        SimulatedExchanges(names, ("BTC",), timeout_s=120) as served,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = write_config(state, names, served.addresses, port)
        config.write_text(config.read_text().replace('["BTC", "ETH", "SOL"]', '["BTC"]'))
        told.bind(str(state / "notify"))
        told.settimeout(90)
        for path in (state, *state.iterdir()):
            os.chown(path, 65534, 65534)
        command = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "sh", "-c", SANDBOX, "sandbox"]
        process = subprocess.Popen(
            [*command, jail, state, root / "opt/sqfd/bin/sqfd"],
            env={
                "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                "NOTIFY_SOCKET": str(state / "notify"),
                "JOURNAL_STREAM": "8:1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            messages = [told.recv(4096).decode()]
            end = time.monotonic() + 90
            while ", 0 bars" in messages[-1] or " bars" not in messages[-1]:
                assert time.monotonic() < end, messages[-3:]
                messages.append(told.recv(4096).decode())
            assert messages[0].startswith("READY=1")
            daemon = next(
                int(line) for line in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            )
            status = Path(f"/proc/{daemon}/status").read_text()
            assert "NoNewPrivs:\t1" in status
            assert "CapBnd:\t0000000000000000" in status
            assert "Uid:\t65534" in status
            os.kill(daemon, signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            log = process.communicate()[1]
        assert "event=stopped" in log
        assert (state / "journal.sqlite").stat().st_uid == 65534
