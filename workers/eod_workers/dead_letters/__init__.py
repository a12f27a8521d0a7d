"""What could not be processed: kept whole, listed, and redriven once."""
