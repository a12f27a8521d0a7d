"""`make bench`: the hot path of a close, measured beside what an engineer would pick instead (docs/performance.md).

Our stages are real processes, driven by their settings and by bytes on a socket or records on a topic; so are the peers
of `bench/peers/java`. Before a time is reported, the answers of both are compared with an account that shares no code
with either. A difference fails the run.
"""
