"""Real servers on loopback: Kafka, Redis, S3 and a Kubernetes control plane, started for the tests or by hand.

Every server comes from a package registry, is built once into a cache outside the checkout, runs on ports of its
own with its data in a folder of its own, and dies with whoever started it. `testbed.server.Server` says what each
of them can do; `tests/conftest.py` offers them as fixtures; `python -m testbed up` starts them for humans.
"""
