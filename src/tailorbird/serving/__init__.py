"""Serving: which release answers whom, the answer, quotas, and the row that every request leaves.

In: the ledger's aliases and rollouts, an engine driver, conversations. Out: answers, request rows, usage, guard reports. Must not know:
HTTP, how a release was made.

    reconciler > alias_routes: moves become routes once their release is loaded
    hosted_models > engine_replicas > effect_checks: the engine's drivers, which load what has shown its effect
    quotas > alias_routes > answers > shadow_traffic > request_log: one request
    request rows > rollout_guards: what follows for a rollout
"""
