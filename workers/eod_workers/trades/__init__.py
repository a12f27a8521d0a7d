"""Trades on the log: their shape, their identity, their envelope and where they go."""
