"""What operator and workers agree on, and neither owns: the streams of the log, and the kinds of stage on them.

'outputs' is beside it because commands of both look at where they are to write.

It imports nothing but the standard library.
"""
