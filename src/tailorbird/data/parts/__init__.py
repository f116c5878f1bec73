"""Parts of a build, done by whoever comes first: this process from the first to the last, others from the last to the first.

    row_curation (a stretch of a file → row_part) · near_parts (some bands of the text index → pairs) · given_parts (how they come and go)

In: a stretch of a source, or an index of texts. Out: what curation makes of it, and its bytes. Must not know: how parts are put together,
who does which, where bytes lie.
"""
