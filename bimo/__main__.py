"""`python -m bimo` is `bimo`."""

from bimo.cli import main

main()
