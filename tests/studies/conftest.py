"""A reporter that remembers."""

from __future__ import annotations

import pytest


class Recorder:
    """Steps of each progress, and notices."""

    def __init__(self):
        self.steps, self.notices = {}, []

    def progress(self, label):
        return lambda done, total: self.steps.setdefault(label, []).append((done, total))

    def notice(self, text):
        if text:
            self.notices.append(text)


@pytest.fixture
def reporter():
    return Recorder()
