"""What operator and workers agree on, and neither owns.

The streams of the log, the kinds of stage on them, and what a scaling decision is made of.

`outputs` and `extras` are beside it because commands of both say the same where they cannot write or lack a library.

It imports nothing but the standard library.
"""
