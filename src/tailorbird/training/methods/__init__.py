"""Training methods; each module registers its method when it is imported here.

In: the modules beside this file. Out: a complete registry. Must not know: what a method does.
"""

import importlib
import pkgutil

from tailorbird.training.methods.registry import Learner, Method, check_registry, method_named, methods, register

__all__ = ["Learner", "Method", "method_named", "methods", "register"]

_methods = {module.name for module in pkgutil.iter_modules(__path__)} - {"registry"}
for _method in sorted(_methods):
    importlib.import_module(f"{__name__}.{_method}")
check_registry(_methods)
