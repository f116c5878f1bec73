"""Labels that are likely wrong, ranked.

In: rows with labels. Out: suspects, likeliest first. Must not know: who decides about them.
"""
