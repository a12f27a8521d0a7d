"""The regulatory store in SQL Server.

pymssql holds the interpreter's lock while it copies a batch and waits for the server, so it runs in a process of its
own: `store` is what the stages see, `process` starts that process, sends it work and kills it when it hangs, `child` is
its main program, `writer` makes the calls in it, `rows` turns rows into what the bulk copy takes, `schema` is the T-SQL
of the tables, `errors` says which failures pass. Nothing is imported here, so that the child starts quickly.
"""
