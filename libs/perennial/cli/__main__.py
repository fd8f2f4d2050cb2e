"""``python -m perennial.cli``."""

from perennial.cli.app import main

main()
