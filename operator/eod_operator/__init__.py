"""The operator: watches EodPipeline resources and sizes each stage before the close.

It knows nothing of the workers.
"""
