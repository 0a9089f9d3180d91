"""Source detection: Faster R-CNN on the feature pyramid of any backbone.

A name is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.detection.detector import Architecture as Architecture
    from finetune.detection.detector import Detector as Detector
    from finetune.detection.results import DetectionRun as DetectionRun
    from finetune.detection.results import compare as compare
    from finetune.detection.scoring import score_detections as score_detections
    from finetune.detection.study import DetectionStudy as DetectionStudy
    from finetune.detection.study import detect_study as detect_study
    from finetune.detection.training import TrainingOptions as TrainingOptions
    from finetune.detection.trunk import load_trunk as load_trunk

_MODULE_OF = {
    "Architecture": "detector",
    "DetectionRun": "results",
    "DetectionStudy": "study",
    "Detector": "detector",
    "TrainingOptions": "training",
    "compare": "results",
    "detect_study": "study",
    "load_trunk": "trunk",
    "score_detections": "scoring",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"finetune.detection.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
