"""`python -m eod_operator` is `eod operator`."""

from eod_operator.cli import app

app(prog_name="eod operator")
