"""Ports: what tailorbird needs from outside, as small Protocols, one noun per file, without behaviour."""
