"""Processes: the gateway with its engine process, and workers.

In: dependencies, addresses, certificates. Out: running servers and workers that end gracefully. Must not know: what a use case does.

    gateway > http_servers (tls, connections) > api;   gateway > engine_process > engine_routes > async_engine > the engine
    gateway, worker > scheduler: background schedules
"""
