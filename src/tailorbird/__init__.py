"""tailorbird: self-hosted adaptation of language models, from an objective to a governed, served release.

The rooms, in the order in which data flows:

domain, ports, foundations · objective, data, models, planning, rungs, training, inference, evaluation, release, serving,
monitoring, reporting, access, ledger, integrations · lifecycle · api, console, app, cli

``settings`` says what may differ between two installations; ``wiring`` is the composition root.
"""

__version__ = "0.2.0"
