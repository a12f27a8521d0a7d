"""The stages of eod: FIX executions in; flash P&L, regulatory rows, archive and dead letters out."""
