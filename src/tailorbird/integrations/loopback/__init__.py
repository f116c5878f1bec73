"""The driver of our own engine process, over HTTP on this machine."""

from tailorbird.integrations.loopback.driver import open_driver

__all__ = ["open_driver"]
