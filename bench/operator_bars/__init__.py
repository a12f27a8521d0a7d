"""The operator's bars, measured on a real API server and a real Kafka: `make bench-operator`.

A package of this name, because a file `bench/operator.py` would take the place of the standard library's `operator` in
every script of the folder.
"""
