"""`python -m intaglio.host.cli`."""

from intaglio.host.cli import main

main()
