"""Where the server's address stands while a command runs: in the environment, so that it can also be set for good.

In: nothing. Out: names of environment variables. Must not know: anything else (``--help`` imports this).
"""

#: The URL of the server that is asked, and a file with the certificate authority to trust there.
SERVER, SERVER_CA = "TAILORBIRD_SERVER", "TAILORBIRD_SERVER_CA"
