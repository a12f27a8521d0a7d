"""`eod doctor`: looks at everything that a pipeline relies on; says what is missing or dangerous, and what mends it.

What a server is like is asked by its adapter (`adapters.kafka_look`, `adapters.redis_look`, `adapters.s3_bucket`); what
to think of it is decided here, by functions that ask nobody.
"""
