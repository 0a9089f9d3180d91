"""For all tests: a property may take as long as a busy machine needs; speed lives in benchmarks/."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("skyprobe", deadline=None)
settings.load_profile("skyprobe")
