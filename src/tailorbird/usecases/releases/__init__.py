"""Releases: approve, stage, promote, roll back and export them."""
