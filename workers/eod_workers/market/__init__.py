"""A market to play against: a universe, a session's shape, and initiators that send its executions over real TCP."""
