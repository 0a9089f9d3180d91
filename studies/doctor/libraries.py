"""Libraries: what is installed of what pyproject asks for, by extra; nothing is imported to find out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from studies.doctor.finding import Finding

_DISTRIBUTION = "skyprobe"
_FOR_DEVELOPERS = ("test", "dev")
_NEEDS_GPU = "gpu"


def examine_libraries(*, has_gpu: bool) -> Iterator[Finding]:
    """What skyprobe cannot do without, then each extra.

    Args:
        has_gpu: Whether there is a GPU, without which nothing is said of the extra for it.
    """
    try:
        own = [Requirement(text) for text in requires(_DISTRIBUTION) or []]
    except PackageNotFoundError:
        yield Finding("libraries", "broken", "skyprobe itself is not installed", "pip install skyprobe")
        return
    needed = [one for one in own if _is_asked_for(one, "")]
    wrong = find_wrong(needed)
    yield (
        Finding("libraries", "broken", "; ".join(wrong), f"pip install --upgrade {_DISTRIBUTION}")
        if wrong
        else Finding("libraries", "ok", f"all {len(needed)} that skyprobe needs, skyprobe {version(_DISTRIBUTION)}")
    )
    for extra in metadata(_DISTRIBUTION).get_all("Provides-Extra") or []:
        if extra not in _FOR_DEVELOPERS and (has_gpu or extra != _NEEDS_GPU):
            yield _extra(extra, [one for one in own if _is_asked_for(one, extra) and one not in needed])


def find_wrong(asked: Sequence[Requirement]) -> list[str]:
    """What is missing of these, or has a version outside its range."""
    found = []
    for one in asked:
        try:
            installed = version(one.name)
        except PackageNotFoundError:
            found.append(f"{one.name} is not installed")
            continue
        if not one.specifier.contains(installed, prereleases=True):
            found.append(f"{one.name} {installed} is not {one.specifier}")
    return found


def _extra(extra: str, asked: Sequence[Requirement]) -> Finding:
    wrong = find_wrong(asked)
    part = f"extra {extra}"
    if not wrong:
        return Finding(part, "ok", ", ".join(f"{one.name} {version(one.name)}" for one in asked))
    return Finding(part, "note", "; ".join(wrong), f"pip install '{_DISTRIBUTION}[{extra}]'")


def _is_asked_for(one: Requirement, extra: str) -> bool:
    """Whether a requirement is one of an extra, or of all installations for the empty one; extras of others are not."""
    return one.name != _DISTRIBUTION and (one.marker is None or one.marker.evaluate({"extra": extra}))
