"""Tells somebody outside by an HTTP POST, signed where a secret is shared."""

from tailorbird.integrations.webhook.notifier import open_notifier

__all__ = ["open_notifier"]
