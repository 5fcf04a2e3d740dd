"""`python deploy/audit.py requirements.lock …`: pip-audit over lock files. A package that could not be looked up is not a safe one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def judge(file: str, dependencies: list[dict[str, Any]]) -> tuple[bool, str]:
    """(whether all is well, what to say) of pip-audit's JSON."""
    asked = [one for one in dependencies if "skip_reason" not in one]
    found = [(one["name"], one["version"], vuln["id"]) for one in asked for vuln in one["vulns"]]
    if found:
        return False, "\n".join(f"{file}: {name} {version}: {id}" for name, version, id in found)
    if not asked:
        return False, f"{file}: nothing was checked: the list of known vulnerabilities is not reachable from here"
    missing = len(dependencies) - len(asked)
    told = f"{file}: nothing known against {len(asked)} packages"
    return not missing, told + (f"; {missing} could not be looked up" if missing else "")


def main(files: list[str]) -> int:
    """0: every package was looked up and nothing is known; else 1."""
    well = True
    for file in files:
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
        done = subprocess.run(
            [*command, "--progress-spinner", "off", "--requirement", file], capture_output=True, text=True
        )
        try:
            good, told = judge(file, json.loads(done.stdout)["dependencies"])
        except (ValueError, KeyError):
            last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            good, told = False, f"{file}: nothing was checked: pip-audit: {last[:200]}"
        print(f"audit: {told}")
        well &= good
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
