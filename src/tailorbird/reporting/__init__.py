"""The reporting room: domain values as tables, text and Markdown. Printing is the command line's job.

In: domain values. Out: renderables and strings. Must not know: where values come from.
"""
