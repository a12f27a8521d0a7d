"""Fulfils `eod_workers.ports`, each port at least twice: embedded (this process or one file) and for real.

A stage never imports from here; whoever wires a process chooses. `tests/contract` holds every adapter to the same
promises. The library of each adapter (aiokafka, redis, boto3) is imported by its module alone.
"""
