"""Snapshots: curate, find, show, compare and fix them."""
