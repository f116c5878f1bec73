"""Erasure of a data subject: found, removed, certified."""
