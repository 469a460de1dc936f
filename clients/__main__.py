"""`python -m clients` is `trauma-transfer`."""

from clients.cli import main

main(prog_name="trauma-transfer")
