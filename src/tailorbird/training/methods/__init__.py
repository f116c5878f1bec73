"""The ways to train: each a folder that registers itself when it is imported here.

In: the folders beside this file. Out: a registry known to be whole. Must not know: what a method does.
"""

import importlib
import pkgutil

from tailorbird.training.methods.registry import Learner, Method, check_registry, method_named, methods, register

__all__ = ["Learner", "Method", "method_named", "methods", "register"]

_folders = {module.name for module in pkgutil.iter_modules(__path__) if module.ispkg}
for _folder in sorted(_folders):
    importlib.import_module(f"{__name__}.{_folder}")
check_registry(_folders)
