"""tailorbird: self-hosted adaptation of language models, from an objective to a governed, served release.

Packages, from the innermost layer to the outermost:

domain · ports · crypto, stats, system · text · objective, data, base_models, planning, rungs, training, inference, evaluation,
release, serving, monitoring, reporting, auth, ledger, integrations, testing · usecases · api, console · processes · cli

``settings`` holds what differs between installations; ``wiring`` is the composition root.
"""

__version__ = "0.2.0"
