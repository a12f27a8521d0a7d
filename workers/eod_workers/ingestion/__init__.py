"""FIX over TCP in; trades, other frames and dead letters on the log out."""
