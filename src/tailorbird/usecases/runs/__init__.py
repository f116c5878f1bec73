"""Runs: submit, plan, work on, list, compare and explain them."""
