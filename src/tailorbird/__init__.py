"""tailorbird: self-hosted adaptation of language models, from an objective to a governed, served release.

The rooms, in the order in which data flows:

domain, ports, foundations · objective, data, models, planning, rungs, training, inference, evaluation, release, serving,
monitoring, reporting, access, ledger, integrations · lifecycle · settings, wiring · api, console · app · cli
"""

__version__ = "0.1.0"
