"""The systemd files: verified, scored, installed twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
EXPOSURE = 1.2

systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")


@systemd
@pytest.mark.parametrize("name", ["sqfd.service", "sqfd@.service"])
def test_the_sandbox_is_tight(name: str) -> None:
    """systemd's own score, offline: 10 is a bare unit."""
    command = ["systemd-analyze", "security", "--offline=true", str(UNITS / name)]
    found = re.search(
        r"exposure level for \S+: ([\d.]+)", subprocess.run(command, capture_output=True, text=True).stdout
    )
    assert found is not None
    assert float(found[1]) <= EXPOSURE


@systemd
@pytest.mark.parametrize("name", ["sqfd.service", "sqfd@.service"])
def test_the_unit_is_verified(name: str, tmp_path: Path) -> None:
    """Nothing to complain about, once the program is where it will be."""
    unit = tmp_path / name.replace("@", "@one")
    text = (UNITS / name).read_text()
    unit.write_text(text.replace("/opt/sqfd/bin/sqfd", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_both_units_are_the_same_but_for_names() -> None:
    """What is hardened in one is hardened in the other."""
    one, many = ((UNITS / name).read_text().splitlines() for name in ("sqfd.service", "sqfd@.service"))
    different = [line for line in many if line not in one and not line.startswith("#")]
    assert [line.partition("=")[0] for line in different] == [
        "Description",
        "ExecStart",
        "StateDirectory",
        "RuntimeDirectory",
    ]
    assert all("%i" in line for line in different)


def install(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DESTDIR": str(root), "SQFD_PYTHON": sys.executable}
    command = ["sh", str(UNITS / "install.sh"), "--no-venv", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_installing_twice_is_installing_once(tmp_path: Path) -> None:
    """The second run changes nothing; a configuration that was edited stays."""
    first = install(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    documents = {f"opt/sqfd/share/doc/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").rglob("*.md")}
    assert set(files(tmp_path)) - documents == {
        "etc/systemd/system/sqfd.service",
        "etc/systemd/system/sqfd@.service",
        "etc/sqfd/sqfd.toml",
        "usr/lib/sysusers.d/sqfd.conf",
        "usr/lib/tmpfiles.d/sqfd.conf",
    }
    (tmp_path / "etc/sqfd/sqfd.toml").write_text("# mine\n")
    before = files(tmp_path)
    again = install(tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert files(tmp_path) == before
    assert documents <= set(before)


def test_the_manual_that_the_unit_names_is_installed(tmp_path: Path) -> None:
    """`systemctl help sqfd` opens it."""
    install(tmp_path)
    named = re.search(r"file://(\S+)", (UNITS / "sqfd.service").read_text())
    assert named is not None
    assert (tmp_path / named[1].lstrip("/")).is_file()


def test_a_tight_umask_does_not_hide_the_program(tmp_path: Path) -> None:
    """The service's user must read what root installs."""
    before = os.umask(0o077)
    try:
        assert install(tmp_path).returncode == 0
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o005 == 0o005 for path in (tmp_path / "opt").rglob("*") if path.is_dir())


def test_the_installer_knows_its_options(tmp_path: Path) -> None:
    """Anything else is a usage error, and nothing is installed."""
    found = install(tmp_path, "--force")
    assert found.returncode == 2
    assert "usage" in found.stderr
    assert files(tmp_path) == {}


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers on this machine")
def test_the_user_is_made(tmp_path: Path) -> None:
    """systemd-sysusers accepts the file and makes the user, in a root of its own."""
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "sqfd.sysusers")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "sqfd:" in (tmp_path / "etc/passwd").read_text()
