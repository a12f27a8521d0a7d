"""Fuzzers with a seed: `python -m fuzz executions --seconds 60`. Unit tests run each for a few seconds."""
