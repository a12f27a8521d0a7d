"""Generated from protos/eod/v1 by tools/protos.py; never edited by hand."""
