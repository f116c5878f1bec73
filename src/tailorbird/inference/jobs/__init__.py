"""What sequences are computed for: an answer, the scores of labels, the likelihood of a text.

In: tokens and what to do with their results. Out: chunks, scores. Must not know: which step computes them, and beside whom.
"""
