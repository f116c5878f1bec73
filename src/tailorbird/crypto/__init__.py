"""Cryptographic structures: canonical JSON and digests, Merkle trees, membership proofs, log verification."""
