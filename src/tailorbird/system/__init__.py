"""The operating system: files, sandboxed parsing, time limits, addresses, memory."""
