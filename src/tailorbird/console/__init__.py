"""The web pages, server-rendered. Every page asks the control plane; nothing is decided here. Engines and tables it knows only as ports."""

from tailorbird.console.pages import console_routes

__all__ = ["console_routes"]
