"""A server that speaks SQL Server's wire protocol (TDS 7.4) and runs a small part of T-SQL on SQLite; see README.md.

From the wire inwards: `packets` (bytes to messages), `encryption` (TLS inside of them), `requests` (what clients send),
`types` and `tokens` (what goes back), `script` and `tsql` (T-SQL to SQLite), `catalogue` (what tables there are), `engine` (one
session on one database), `faults` (what tests break), `session` and `server` (threads and sockets).
"""
