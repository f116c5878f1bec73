"""Pure knowledge that several rooms share: canonical JSON and digests, Merkle trees, statistics, prompting, text."""
