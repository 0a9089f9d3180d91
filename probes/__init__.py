"""Probes on stored features: heads over label fractions and seeds, scores, result tables, saved heads.

A name is loaded when it is first used, so that importing the package costs nothing; `__init__.pyi` lists the names.
"""

from importlib.util import find_spec

import lazy_loader

if find_spec("cuml"):  # it has to come before scikit-learn is loaded, and is part of the extra gpu alone
    from probes.solvers.backend import accelerate

    accelerate()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
