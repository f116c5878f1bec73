"""Monitoring: production checks, and the explanation of an answer."""
