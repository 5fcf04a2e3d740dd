"""The tests that docs/promises.md names, and no others: `make promises`.

Three processes side by side: `tests/real`, which mostly waits for its servers and comes first where there are two cores, the
simulated days, which nobody waits for, and the rest. Ends with a table of how many cases of each test ran, which `--write` puts
where the document says no more than that, and with the slowest tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "promises.md"
TEST = re.compile(r"`(tests/(?:\w+/)*test_\w+\.py(?:::\w+)?)`")
CASES = re.compile(r"^\d+ cases?( × up to \d+ examples)?$|^in the suite$")
"""What a row says of a test that counts nothing else."""
RESULTS = "SQFD_PROMISES_RESULTS"
GROUPS = (("tests/real/", 0), ("tests/simulation/test_day.py", 10), ("", 5))
"""(where its tests begin, niceness): each test belongs to the first that fits."""


class Results:
    """As a plugin of pytest: what became of each case, as JSON in the end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.examples: dict[str, int] = {}
        self.took_s: defaultdict[str, float] = defaultdict(float)
        self.passed: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        from hypothesis import settings

        for item in items:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                self.examples[name_of(item.nodeid)] = settings().max_examples

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took_s[name_of(report.nodeid)] += report.duration
        self.passed[name_of(report.nodeid)] += report.when == "call" and report.passed

    def pytest_sessionfinish(self) -> None:
        told = {"passed": self.passed, "took_s": self.took_s, "examples": self.examples}
        self.file.write_text(json.dumps(told))


def name_of(nodeid: str) -> str:
    """Without its parameters."""
    return nodeid.partition("[")[0]


def pytest_configure(config: pytest.Config) -> None:
    """This module is named as a plugin by `run`."""
    config.pluginmanager.register(Results(Path(os.environ[RESULTS])))


def chosen(text: str, titles: list[str]) -> str:
    """The parts of the document whose titles begin with these words; without any, all of it."""
    parts = re.split(r"^## ", text, flags=re.M)
    return "".join(part for part in parts if not titles or part.partition("\n")[0].split()[0] in titles)


def named(text: str) -> list[str]:
    """Tests and files of tests that the document names, once each."""
    return list(dict.fromkeys(TEST.findall(text)))


def grouped(tests: list[str]) -> dict[int, list[str]]:
    """By niceness; without empty groups."""
    found: dict[int, list[str]] = {}
    for test in tests:
        nice = next(nice for begin, nice in GROUPS if test.startswith(begin))
        found.setdefault(nice, []).append(test)
    return found


def run(tests: list[str], nice: int, results: Path) -> subprocess.Popen[bytes]:
    """pytest on some of them."""
    command = ["nice", "-n", str(nice), sys.executable, "-m", "pytest", "-q", "-p", "tests.promises", *tests]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, RESULTS: str(results)})


def written(text: str, found: dict[str, Counter[str]], examples: dict[str, int]) -> str:
    """The document with the counts of rows that say no more."""
    lines = []
    for line in text.splitlines():
        cells = line.strip("|").split("|")
        test = TEST.search(cells[0])
        if test and len(cells) == 3 and CASES.match(cells[2].strip()) and (cases := count(found, test[1])):
            more = f" × up to {examples[test[1]]} examples" if test[1] in examples else ""
            line = f"|{cells[0]}|{cells[1]}| {cases} case{'s' * (cases > 1)}{more} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def count(found: dict[str, Counter[str]], test: str) -> int:
    """Cases of a test, or of all tests of a file."""
    return sum(cases for name, cases in found["passed"].items() if name == test or name.startswith(test + "::"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("promises", nargs="*", help="P1, P13, Security …; none: all")
    parser.add_argument("--write", action="store_true", help="put the counts into docs/promises.md")
    options = parser.parse_args()
    text = DOCUMENT.read_text()
    tests = named(chosen(text, options.promises))
    found: dict[str, Counter[str]] = {"passed": Counter(), "took_s": Counter()}
    examples: dict[str, int] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        groups = grouped(tests)
        files = {nice: Path(folder) / f"{nice}.json" for nice in groups}
        running = [run(group, nice, files[nice]) for nice, group in groups.items()]
        failed = [process.wait() for process in running]
        for file in filter(Path.exists, files.values()):
            results: dict[str, Any] = json.loads(file.read_text())
            examples |= results.pop("examples")
            for name, one in results.items():
                found[name].update(one)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    for test, took_s in Counter(found["took_s"]).most_common(25):
        sys.stdout.write(f"{took_s:7.1f} s {test}\n")
    for test in tests:
        sys.stdout.write(f"{count(found, test):6} cases {test}\n")
    sys.stdout.write(
        f"{len(tests)} tests named, {sum(found['passed'].values()):.0f} cases passed, "
        f"{time.monotonic() - started:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU\n"
    )
    if options.write:
        DOCUMENT.write_text(written(text, found, examples))
    return max(failed)


if __name__ == "__main__":
    sys.exit(main())
