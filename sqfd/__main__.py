"""`sqfd`, also as `python -m sqfd`."""

import signal


def main() -> None:
    """Entry point. Until the command's own module is imported, Ctrl-C ends Python at once and without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sqfd.cli import main

    main()


if __name__ == "__main__":
    main()
