"""What operator and workers agree on, and neither owns: the streams of the log, and the kinds of stage on them.

`outputs` and `extras` are beside it because commands of both say the same where they cannot write or lack a library.

It imports nothing but the standard library.
"""
