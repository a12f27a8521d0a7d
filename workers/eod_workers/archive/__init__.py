"""Every received byte, immutable and replayable."""
