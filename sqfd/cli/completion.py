"""`sqfd completion`."""

from __future__ import annotations

import click

WHERE = {
    "bash": "sqfd completion bash > ~/.local/share/bash-completion/completions/sqfd",
    "zsh": "sqfd completion zsh > ~/.zfunc/_sqfd    (with fpath+=~/.zfunc before compinit)",
    "fish": "sqfd completion fish > ~/.config/fish/completions/sqfd.fish",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(sorted(WHERE)))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example: sqfd completion bash > ~/.local/share/bash-completion/completions/sqfd
    """
    from click.shell_completion import get_completion_class

    from sqfd.cli import cli

    found = get_completion_class(shell)
    assert found is not None  # the choices are click's own
    script = found(cli, {}, "sqfd", "_SQFD_COMPLETE").source()
    # click's fish script cuts what it says of a word at the first comma.
    script = script.replace('(string split "," $completion)', '(string split --max 1 "," $completion)')
    first, _, rest = script.partition("\n")
    # zsh takes a file for a completion when "#compdef" is its first line.
    click.echo(
        "\n".join([first, f"# {WHERE[shell]}", rest] if first.startswith("#") else [f"# {WHERE[shell]}", script])
    )
