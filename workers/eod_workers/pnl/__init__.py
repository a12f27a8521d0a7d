"""Flash P&L: trades and prices of a partition in; positions with realized and unrealized P&L out, in milliseconds."""
