"""Maintenance: audit log, backup, health, clock."""
