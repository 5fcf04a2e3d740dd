"""`python -m sqfd` is `sqfd`."""

from sqfd.cli import main

main()
