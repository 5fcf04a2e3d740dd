"""`docs/cli.md` and `docs/settings.md`, made from the commands and settings themselves: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

WIDTH = 100
HEAD = "<!-- Made by `make docs`; a test compares. Do not edit. -->\n"


def commands() -> str:
    """Every command's help."""
    from sqfd.cli import cli

    parts = [HEAD, "# Commands\n", "Exit codes: 0 ok, 1 error, 2 usage, 78 configuration.\n"]
    for context in contexts(cli, "sqfd"):
        parts.append(f"## `{context.command_path}`\n\n```\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for each command, groups before what is in them."""
    context = command.make_context(
        name, [], parent, resilient_parsing=True, max_content_width=WIDTH, terminal_width=WIDTH
    )
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            if not found.hidden:
                yield from contexts(found, inner, context)


def settings() -> str:
    """Every setting, section by section."""
    from sqfd.config import ALIASES, LIVE, Config
    from sqfd.settings import describe, is_secret, toml_value, walk

    parts = [HEAD, "# Settings\n", _settings_head(LIVE)]
    section = None
    for key, hint, default in walk(Config):
        found = key.rpartition(".")[0]
        if found != section:
            section = found
            parts.append(
                f"\n## {f'`[{section}]`' if section else 'Top level'}\n\n| setting | default | what |\n|---|---|---|"
            )
        shown = "" if default is None or is_secret(key) else f"`{toml_value(default)}`"
        parts.append(f"| `{key.rpartition('.')[2]}` | {shown.replace('|', chr(92) + '|')} | {_cell(describe(hint))} |")
    rows = "\n".join(f"| `{name}` | `{key}` |" for name, key in sorted(ALIASES.items()))
    parts.append(f"\n## Older environment names\n\n| variable | setting |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def _settings_head(live: tuple[str, ...]) -> str:
    names = ", ".join(f"`{name}*`" if name.endswith(".") else f"`{name}`" for name in live)
    return (
        "Order: defaults < `sqfd.toml` < systemd credentials of the setting's name < environment (`SQFD__SECTION__KEY`, "
        f"`…_FILE` reads a file) < flags.\nReload (SIGHUP) applies {names}; the rest needs a restart. `sqfd config show` "
        "tells where each value came from.\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write({"cli": commands, "settings": settings}[sys.argv[1]]())
