"""Whether a hub can be reached: asked once and within seconds; where it does not answer, nothing asks it again."""

from __future__ import annotations

import os
import ssl
from functools import cache
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_SWITCH, _BY_US = "HF_HUB_OFFLINE", "SKYPROBE_HUB_IS_SILENT"

LIMIT = 5.0
"""Seconds that a hub has to answer."""


def is_offline(url: str | None = None) -> bool:
    """Whether nothing can be downloaded: by the user's choice (``HF_HUB_OFFLINE``), or since the hub does not answer.

    Without an answer the libraries of Hugging Face are told to stay offline too: they would retry for a minute.

    Args:
        url: Address of the hub; None for that of Hugging Face.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    if answers(url or constants.ENDPOINT):
        return False
    if url is None:
        os.environ[_SWITCH] = os.environ[_BY_US] = "1"  # for processes that start from here
        constants.HF_HUB_OFFLINE = True
    return True


def is_offline_by_choice() -> bool:
    """Whether the user has switched downloads off."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE and _BY_US not in os.environ


@cache
def answers(url: str) -> bool:
    """Whether a server answers, with anything, through the proxies of the environment and within `LIMIT` seconds."""
    answered: list[bool] = []
    # In a thread of its own: looking up a name has no time limit.
    thread = Thread(target=lambda: answered.append(_ask(url)), daemon=True)
    thread.start()
    thread.join(LIMIT)
    return answered == [True]


def _ask(url: str) -> bool:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=LIMIT):  # noqa: S310 (the address of a hub, not of a user)
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # libraries may know certificates that Python does not
    except (OSError, ValueError):
        return False
