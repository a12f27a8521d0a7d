"""Every trade, exactly once, with its reference data: rows and offsets in one transaction."""
