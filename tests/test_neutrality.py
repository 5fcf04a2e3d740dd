"""sqfd knows no exchange by name: what is particular to one is in its file under exchanges/."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import exchanges
import sqfd

ROOT = Path(sqfd.__file__).parent
ALLOWED = {
    "backtest/fees.py": "defaults of configuration: each exchange's published fees",
    "backtest/settings.py": "a default of configuration: where a backtest trades",
    "cli/__init__.py": "help: whose archives a command reads",
    "cli/demo.py": "a default of configuration: the demo's exchanges",
    "cli/history.py": "the name of an archive's file format",
    "history/formats.py": "the name of an archive's file format",
}
"""Files of sqfd that may name exchanges, and why."""
NAMES = {exchange_id.lower() for exchange_id in exchanges.IDS} | {"okx", "htx"}


def words(text: str) -> set[str]:
    """The words of a text, names with an underscore whole and in parts."""
    found = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()
    return {*found, *(part for word in found for part in word.split("_"))}


def prose(tree: ast.AST) -> Iterator[int]:
    """Ids of the nodes of docstrings: sentences for readers, with examples."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def spoken(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names and strings of the code, with their lines. A string that says `for example` is prose, too."""
    skipped = set(prose(tree))
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg", "module"):
            if isinstance(text := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), text
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in skipped:
            continue
        if "for example" not in node.value:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_code_names_no_exchange(path: Path) -> None:
    """Neither an identifier nor a string outside documentation and configuration names one."""
    found = [(line, text) for line, text in spoken(ast.parse(path.read_text())) if words(text) & NAMES]
    assert str(path.relative_to(ROOT)) in ALLOWED or not found


def test_a_name_would_be_found() -> None:
    """Imports, identifiers and strings count; docstrings do not."""
    source = 'from exchanges.kraken import x\nOKX_URL = f"wss://{x}/BYBIT"\n"""As on DERIBIT."""\n'
    assert {text for _, text in spoken(ast.parse(source)) if words(text) & NAMES} == {
        "exchanges.kraken",
        "OKX_URL",
        "/BYBIT",
    }
