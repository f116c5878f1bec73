"""Maintenance: audit log, backup, checkpoint shipping, health, clock floor."""
