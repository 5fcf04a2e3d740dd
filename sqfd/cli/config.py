"""`sqfd config validate | show | schema | reference`."""

from __future__ import annotations

from pathlib import Path

import click

file_option = click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), help="Configuration file; default: where `run` looks."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """Check, show and describe the configuration.

    \b
    sqfd config validate -c sqfd.toml     exit 0 exactly when `sqfd run` would start with it
    sqfd config show                      every setting in force, and where it came from
    """


@config.command()
@file_option
def validate(path: Path | None) -> None:
    """Check the configuration; exit 78 with one line that names what is wrong.

    \b
    Example: sqfd config validate -c sqfd.toml
    """
    from sqfd.config import load

    for note in load(path).notes:
        click.echo(f"note: {note}")
    click.echo("ok")


@config.command()
@file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per setting.")
def show(path: Path | None, as_json: bool) -> None:
    """Print every setting in force, and where its value came from. Secrets are not shown.

    \b
    Example: SQFD__FEED__GRACE_S=0.5 sqfd config show | grep grace
    """
    import msgspec

    from sqfd.config import load, shown

    for key, value, source in shown(load(path)):
        if as_json:
            click.echo(msgspec.json.encode({"key": key, "value": value, "source": source}))
        else:
            click.echo(f"{key} = {value!r:<40}  # {source}")


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration file.

    \b
    Example: sqfd config schema > sqfd.schema.json
    """
    import msgspec

    from sqfd.config import Config

    click.echo(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Config))))


@config.command()
def reference() -> None:
    """Print the reference file: every setting with one sentence and its default.

    \b
    Example: sqfd config reference > sqfd.toml
    """
    from sqfd.config import reference as text

    click.echo(text(), nl=False)
