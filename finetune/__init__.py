"""finetune: train backbones on labelled images; rows of results stand in the same tables as those of the probes.

Names load their module when first used: importing this package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.classification import Task as Task
    from finetune.classification import Tuned as Tuned
    from finetune.classification import plan_fit as plan_fit
    from finetune.classification import run_fit as run_fit
    from finetune.config import FinetuneOptions as FinetuneOptions
    from finetune.config import TrainerOptions as TrainerOptions
    from finetune.images import load_images as load_images
    from finetune.stages import FinetuneStudy as FinetuneStudy
    from finetune.stages import finetune_study as finetune_study
    from finetune.trainer import Group as Group
    from finetune.trainer import Learner as Learner
    from finetune.trainer import Stage as Stage
    from finetune.trainer import train as train
    from finetune.tuned import save_tuned as save_tuned

_MODULE_OF = {
    "FinetuneOptions": "config",
    "FinetuneStudy": "stages",
    "Group": "trainer",
    "Learner": "trainer",
    "Stage": "trainer",
    "Task": "classification",
    "TrainerOptions": "config",
    "Tuned": "classification",
    "finetune_study": "stages",
    "load_images": "images",
    "plan_fit": "classification",
    "run_fit": "classification",
    "save_tuned": "tuned",
    "train": "trainer",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"finetune.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
