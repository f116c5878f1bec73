"""Erasure: a person is found wherever their data reached, removed, and certified."""
