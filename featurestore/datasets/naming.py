"""What a dataset is called, and the text that opens it again."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any


def source_at(kind: str, path: Path) -> str:
    """``KIND:PATH`` with the absolute path: what opens the dataset from anywhere."""
    return f"{kind}:{path.resolve()}"


def default_name(source: str) -> str:
    """A folder name such as ``galaxies-1f0c3a``.

    The last part of the path is for readers; six digits of the SHA-256 of the whole source tell apart folders that
    are called alike.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source.partition(":")[2]).stem).strip("-._")[:60]
    return f"{readable or 'dataset'}-{sha256(source.encode(errors='surrogateescape')).hexdigest()[:6]}"


def identity(kind: str, path: Path, name: str | None) -> dict[str, Any]:
    """The fields ``name`` and ``source`` of a sample table; `name` wins over the default."""
    source = source_at(kind, path)
    return {"name": name or default_name(source), "source": source}
