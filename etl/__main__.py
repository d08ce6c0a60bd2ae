"""`python -m etl` is `audit-etl`."""

from etl.cli import main

main()
