"""`python -m qmargin` is the command `qmargin`."""

from qmargin.cli import main

main()
