"""Servers that speak OpenAI's protocol and serve one model."""

from tailorbird.integrations.openai_compatible.driver import OpenAiDriver, open_driver

__all__ = ["OpenAiDriver", "open_driver"]
