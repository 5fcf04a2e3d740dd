"""`python -m tests.fuzz --seconds 10`: every target for so long, by atheris (`pip install atheris`), in a process each.

What it finds is written to `tests/fuzz/crashes/<target>-…`, where the suite runs it from then on. Inputs that reach something
new are kept, small, in `tests/fuzz/corpus`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

Target = Callable[[bytes], None]

HERE = Path(__file__).parent
CRASHES, CORPUS = HERE / "crashes", HERE / "corpus"
KEPT = 40
"""Inputs that are kept of each target: the smallest."""
MAX_LEN = 4096


def kept(name: str) -> list[bytes]:
    """The corpus of a target."""
    file = CORPUS / name
    return [base64.b64decode(line) for line in file.read_text().split()] if file.exists() else []


def _fuzz(run: Target, arguments: list[str], folder: Path) -> None:
    """In a forked child: hand over to libFuzzer, which ends the process."""
    import atheris  # type: ignore[import-not-found]  # optional: make fuzz installs it

    with (folder / "told").open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    found = folder / "found"

    def watched(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            (found / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise

    atheris.Setup([sys.argv[0], *arguments], watched)
    atheris.Fuzz()


def _run(name: str, run: Target, seconds: int, seeds: list[bytes]) -> tuple[str, list[Path]]:
    """One target in a process of its own: (what it did, inputs that broke it)."""
    folder = Path(tempfile.mkdtemp(prefix="sqfd-fuzz-"))
    corpus, found = folder / "corpus", folder / "found"
    corpus.mkdir()
    found.mkdir()
    for number, seed in enumerate([*seeds, *kept(name)]):
        (corpus / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LEN}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    limits = ["-rss_limit_mb=1024", "-timeout=10"]
    child = os.fork()
    if child == 0:
        _fuzz(run, [*options, *limits, str(corpus)], folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output = (folder / "told").read_text(errors="replace")
    runs = re.search(r"number_of_executed_units: (\d+)", output)
    covered = re.findall(r"cov: (\d+)", output)
    told = f"{runs[1] if runs else '?'} runs, {covered[-1] if covered else '?'} places"
    crashes = []
    CRASHES.mkdir(exist_ok=True)
    for one in found.iterdir():
        crashes.append(CRASHES / f"{name}-{one.name[-8:]}")
        shutil.copy(one, crashes[-1])
    if code and not crashes:
        told += f", ended with {code}: {output[-1500:]}"
    _keep(name, corpus, seeds)
    shutil.rmtree(folder)
    if crashes:
        told += "\n" + "\n".join(line for line in output.splitlines() if "Error" in line or "File" in line)[-1500:]
    return told, crashes


def _keep(name: str, corpus: Path, seeds: list[bytes]) -> None:
    inputs = {one.read_bytes() for one in corpus.iterdir()} - set(seeds)
    smallest = sorted(inputs, key=lambda one: (len(one), one))[:KEPT]
    if smallest:
        CORPUS.mkdir(exist_ok=True)
        (CORPUS / name).write_text("".join(base64.b64encode(one).decode() + "\n" for one in smallest))


def main() -> int:
    """1 where something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--target", default="", help="only those whose name holds this")
    given = parser.parse_args()
    import atheris

    with atheris.instrument_imports(include=["exchanges", "sqfd"]):
        from tests.fuzz.targets import SEEDS, TARGETS

    broken: list[Path] = []
    for name in TARGETS:
        if given.target in name:
            told, crashes = _run(name, TARGETS[name], given.seconds, list(SEEDS[name]()))
            print(f"{name}: {told}", *map(str, crashes), sep="\n  " if crashes else "", flush=True)
            broken += crashes
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
