"""Rollouts: guarded progressive delivery, and rollback drills."""
