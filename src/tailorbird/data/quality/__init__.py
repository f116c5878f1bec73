"""What is wrong with a text or an answer, as far as rules can tell.

    languages → rules

In: a row's text and answer, a policy. Out: the rules that it breaks. Must not know: files, splits, models.
"""

from tailorbird.data.quality.rules import VERSION, Quality

__all__ = ["VERSION", "Quality"]
