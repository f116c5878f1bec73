"""Tasks of EleutherAI's lm-evaluation-harness, put to our engine."""

from tailorbird.integrations.lm_eval.harness import open_harness

__all__ = ["open_harness"]
