"""Names of datasets, variants, backbones and label schemes as folder names, reversible and readable.

The rule is percent-encoding (RFC 3986): letters, digits and ``._-~=,+@`` stand for themselves, everything else is
``%XX`` by UTF-8 byte, so ``timm:resnet18`` becomes ``timm%3Aresnet18``.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from featurestore.errors import UsageError

_SAFE = "=,+@"
_LONGEST = 240
"""Bytes: file systems allow 255, and a writer adds a suffix while it works."""


def escape(name: str) -> str:
    """The folder name that stands for `name`.

    Raises:
        UsageError: The name is empty, or too long for a file system.
    """
    component = quote(name, safe=_SAFE)
    if component.startswith((".", "__")) or component == "zarr.json":
        component = f"%{ord(component[0]):02X}{component[1:]}"  # reserved by Zarr and by shells
    if not 0 < len(component) <= _LONGEST:
        raise UsageError(
            f"a name of {len(component)} characters cannot be a folder",
            where=repr(name[:60]),
            hint=f"Give a name of 1 to {_LONGEST} characters.",
        )
    return component


def unescape(component: str) -> str:
    """The name that `escape` turned into `component`."""
    return unquote(component)
