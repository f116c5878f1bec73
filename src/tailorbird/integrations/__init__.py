"""Outside systems, one folder each; and ``memory``, the in-memory twins of the ports, for tests and rehearsals."""
