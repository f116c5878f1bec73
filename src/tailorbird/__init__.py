"""tailorbird: self-hosted adaptation of language models, from an objective to a governed, served release.

Packages, from the innermost layer to the outermost:

domain · ports · crypto, stats, system · text · chat · ledger · evaluation · objective · data · base_models · planning · reporting ·
training · inference · rungs · release · serving · monitoring · auth · integrations · usecases · api, console · processes, sdk · cli

``settings`` holds what differs between installations; ``wiring`` is the composition root.
``Workspace`` is the Python API; it is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailorbird.sdk import Workspace

__all__ = ["Workspace", "__version__"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """``Workspace``, loaded on first use: importing the package alone costs nothing."""
    if name != "Workspace":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tailorbird.sdk import Workspace

    return Workspace
