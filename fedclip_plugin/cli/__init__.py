"""The command line, one module a command: ``add`` says what it takes, ``act`` does it."""
