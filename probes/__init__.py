"""Probes on stored features: heads over label fractions and seeds, scores, result tables, saved heads.

A name is loaded when it is first used, so that importing the package costs nothing; `__init__.pyi` lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
