"""Domain: frozen values and state machines, one noun a file.

In: literals. Out: values. Must not know: anything but the standard library and pydantic.
"""
