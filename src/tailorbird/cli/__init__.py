"""The command line, one file a verb group. Data goes to stdout; progress, messages and errors to stderr."""
