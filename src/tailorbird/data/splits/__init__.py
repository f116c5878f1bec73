"""Splits: no group on two sides, and every label in each.

    shifted_part → split_assignment (with label coverage)

In: distinct items and their ties. Out: groups with a split, and what has to be set aside. Must not know: files, artifacts.
"""
