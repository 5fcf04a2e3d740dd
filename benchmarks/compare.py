"""The README's table of how sqfd compares, out of one run of `benchmarks.ingest`: every figure of it is of that run.

python -m benchmarks.ingest --runs 5 --peers peers/bin/python
python -m benchmarks.compare            prints it; --write puts it into README.md
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness import RESULTS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks.compare -->\n", "<!-- end -->\n"
PATHS = {
    "daemon": "sqfd",
    "cryptofeed": "cryptofeed",
    "nautilus_trader": "nautilus_trader",
    "ccxt": "ccxt pro",
    "floor": "reading and decoding alone",
}
CASES = {
    "plain": "one trade a frame",
    "batched": "many trades a frame",
    "TLS": "one trade a frame, over TLS",
    "mixed": "112 markets on all exchanges",
}


def table(document: Mapping[str, Any]) -> str:
    """CPU seconds for a million trades as Markdown, a row for each case; "–" where a path did not take part."""
    rows, on = document["rows"], document["machine"]
    costs = {(row["case"], row["path"]): row["µs CPU a trade"] for row in rows}
    paths = {path: name for path, name in PATHS.items() if any(of == path for _, of in costs)}
    lines = [
        f"| CPU seconds per million trades, one core | {' | '.join(paths.values())} |",
        f"|{'---|' * (len(paths) + 1)}",
        *(
            f"| {name} | {' | '.join(f'{costs[case, path]:.1f}' if (case, path) in costs else '–' for path in paths)} |"
            for case, name in CASES.items()
            if any(of == case for of, _ in costs)
        ),
        "",
        f"Medians of one run of `benchmarks.ingest` on {on['cores']} cores of {on['processor']}, Python {on['python']}.",
    ]
    return "\n".join(lines) + "\n"


def put_in(readme: str, made: str) -> str:
    """The README with the table in the place of the one it has. Raises ValueError where it has no place for one."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table: {BEGIN.strip()} … {END.strip()}")
    return head + begin + made + end + tail


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into README.md")
    options = parser.parse_args()
    made = table(orjson.loads((RESULTS / "ingest.json").read_bytes()))
    print(made, end="")
    if options.write:
        README.write_text(put_in(README.read_text(), made))


if __name__ == "__main__":
    main()
