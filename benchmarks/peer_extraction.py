"""From 424 px JPEG files to features, against what people use: the same backbone, files and machine in one run.

Every peer loads its model once and stays alive; then all embed the folder in turn, round by round. Models have random
weights: speed does not depend on their values. Each peer preprocesses to 224 px in its own way, runs with the number
of threads that it chooses, and computes in fp32 unless its name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.images import write_images
from benchmarks.peers.process import Peer, PeerError, PeerProcess, start_peer
from benchmarks.precisions import native_precisions
from benchmarks.row import Row

ROUNDS = 5
SIDE = 424
RESNET, VIT, LITE = "resnet18", "vit_small_patch16_224", "tf_efficientnet_lite0"

OURS = {precision: Peer(f"skyprobe {precision}", "skyprobe", precision) for precision in native_precisions()}
PEERS = (
    Peer("timm + DataLoader, 0 workers", "timm_loader", "0"),
    Peer("timm + DataLoader, 2 workers", "timm_loader", "2"),
    Peer("transformers pipeline, batch 1", "transformers_pipeline", "1", backbones=(RESNET, VIT)),
    Peer("transformers pipeline, batch 8", "transformers_pipeline", "8", backbones=(RESNET, VIT)),
    Peer("thingsvision", "thingsvision_extractor", venv="thingsvision"),
    Peer("clip-benchmark's featurizer", "clip_benchmark_featurizer", "2", venv="clip_benchmark"),
    Peer("img2vec_pytorch, single", "img2vec", "single", venv="img2vec", backbones=(RESNET,)),
    Peer("img2vec_pytorch, list", "img2vec", "list", venv="img2vec", backbones=(RESNET,)),
)
AUTOCAST = Peer("timm + DataLoader, 2 workers, bf16 autocast", "timm_loader", "2,bf16")
"""Not among those that the goals are held against: people seldom do it on a CPU. Its figure is stated."""


@dataclass(frozen=True)
class Case:
    """One backbone.

    Attributes:
        backbone: Name of a timm model.
        images: Images a pass, so that a peer needs about ten seconds, and fixed costs of a pass fade.
        goals: Precision -> the ratio to the best peer that must be reached.
    """

    backbone: str
    images: int
    goals: Mapping[str, float]


CASES = (
    Case(RESNET, 256, {"fp32": 1.7, "bf16": 3.0}),
    Case(VIT, 128, {"fp32": 1.35, "bf16": 2.5}),
    Case(LITE, 256, {"fp32": 5.0, "bf16": 10.0}),
)

Rates = dict[Peer, list[float]]
"""Images a second of each contestant, one figure a round."""


def measure() -> Iterator[Row]:
    """Two rows a backbone: exact fp32, and bf16, each against the best of the peers."""
    for case in CASES:
        with TemporaryDirectory() as place:
            folder = write_images(Path(place), "jpeg", SIDE, case.images)
            rates, absent = _compete(case, folder)
        yield from _rows(case, rates, absent)


def _compete(case: Case, folder: Path) -> tuple[Rates, list[str]]:
    """Rates of all that can be run, after one round that does not count; and why others cannot."""
    wanted = [peer for peer in (*PEERS, AUTOCAST) if peer.offers(case.backbone)]
    absent = [f"{peer.name} is not installed (make bench-peers)" for peer in wanted if not peer.installed]
    processes: dict[Peer, PeerProcess] = {}
    rates: Rates = {}
    with ExitStack() as stack:
        for peer in (*OURS.values(), *(peer for peer in wanted if peer.installed)):
            with _excused(peer, absent):
                processes[peer] = stack.enter_context(start_peer(peer.command(case.backbone, folder)))
                rates[peer] = []
        for _ in range(ROUNDS + 1):
            for peer, figures in rates.items():
                with _excused(peer, absent):
                    figures.append(processes[peer].rate())
    return {peer: figures[1:] for peer, figures in rates.items() if len(figures) == ROUNDS + 1}, absent


@contextmanager
def _excused(peer: Peer, absent: list[str]) -> Iterator[None]:
    """A peer that does not run is left out, and its reason kept; ours has to run."""
    try:
        yield
    except PeerError as error:
        if peer in OURS.values():
            raise
        if (reason := f"{peer.name} failed: {error}") not in absent:
            absent.append(reason)


def _rows(case: Case, rates: Rates, absent: Sequence[str]) -> Iterator[Row]:
    peers = {peer: figures for peer, figures in rates.items() if peer in PEERS}
    best = max(peers, key=lambda peer: median(peers[peer]))
    for precision, ours in OURS.items():
        notes = [f"against {best.name}", *absent]
        if precision == "bf16" and AUTOCAST in rates:
            notes.insert(1, f"{_ratio(rates, ours, AUTOCAST):.2f} x {AUTOCAST.name}")
        yield Row(
            f"JPEG {SIDE} px to stored {case.backbone} {precision}, against peers",
            "images/s",
            median(rates[ours]),
            _ratio(rates, ours, best),
            case.goals[precision],
            peers={peer.name: median(figures) for peer, figures in peers.items()},
            note="; ".join(notes),
        )


def _ratio(rates: Rates, ours: Peer, other: Peer) -> float:
    """Median over rounds."""
    return median(mine / theirs for mine, theirs in zip(rates[ours], rates[other], strict=True))
