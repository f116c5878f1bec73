"""A module that holds more memory than a confined job of the tests may take."""

HELD = b"x" * (450 << 20)
