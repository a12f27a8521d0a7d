"""The API server as the operator uses it: requests, watches, leases and Events, in terms of plain dicts."""
