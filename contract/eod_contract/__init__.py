"""What operator and workers agree on, and neither owns: the streams of the log, and the kinds of stage on them.

It imports nothing but the standard library.
"""
