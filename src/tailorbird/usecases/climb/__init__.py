"""Climb: snapshot, plan, preflight, floor, rungs, sealed test."""
