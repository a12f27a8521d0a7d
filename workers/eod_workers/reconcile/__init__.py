"""Whether every store holds what the log says: trade by trade, object by object, position by position."""
