"""Maintenance: audit log, backup, checkpoint shipping, health."""
