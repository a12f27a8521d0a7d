"""What can go wrong between wanting a real server and having one."""


class Missing(Exception):
    """This machine cannot have the server; the message is one sentence that says what to install."""


class BuildFailed(Exception):
    """The machine has the tools, yet the server could not be fetched or built; the message ends with the log's tail."""


class StartFailed(Exception):
    """The server did not become usable; the message ends with the log's tail."""


class CommandFailed(Exception):
    """A command against a running server failed; the message holds the command line and what it printed."""
