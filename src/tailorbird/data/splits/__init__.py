"""Which split each row goes to, so that no group is on two sides and every label is in each.

    shifting → labels → classes → placing → coverage

In: distinct items and their ties. Out: groups with a split, and what has to be set aside. Must not know: files, artifacts.
"""
