"""Production monitoring: drift, service levels, and alerts.

In: request rows and feedback as values. Out: measurements against thresholds, signals, alert messages. Must not know:
ports, where values are stored, how a message is sent.

    drift, service > thresholds > production_check > alerts
"""
