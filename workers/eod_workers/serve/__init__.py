"""`eod serve`: the whole pipeline in one process for an engine of your own, with prices from outside."""
