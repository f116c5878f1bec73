"""Watches what is in production: drift, KPI trends, alerts. Nothing is here yet; the words stand in ``domain/signal.py``."""
