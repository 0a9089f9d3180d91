"""Steps that take times: the device by itself, forwards by themselves, and whole extractions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.decoding import wait_for
from benchmarks.gpu_check.outcome import Figure
from benchmarks.gpu_check.setting import VIT_B, Setting, Skipped
from benchmarks.row import seconds
from featurestore.backbones.engines.base import Runtime
from featurestore.backbones.engines.torch import Network
from featurestore.datasets import open_dataset
from featurestore.errors import BackboneError
from featurestore.extraction.decoding_pool import DecodingPool, open_decoding
from featurestore.extraction.embedding import Batch, Costs
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.preprocessing import Preprocessing
from featurestore.store import open_store
from featurestore.workers import count_processors

VIT_B_ON_H100 = 8000.0
SHARE = 0.9


def measure_machine(setting: Setting) -> Iterator[Figure]:
    """What the device and the processors do by themselves."""
    n = 4096 if setting.is_gpu else 128
    a = torch.rand(n, n, device="cpu").to(setting.device, torch.bfloat16)
    yield Figure("bf16 matmul, TFLOP/s", 2 * n**3 / setting.seconds(lambda: a @ a, setting.scale.passes) / 1e12)
    big = torch.zeros(n * n * 4, device=setting.device)
    copy = torch.empty_like(big)
    yield Figure("copy on the device, GB/s", 2 * big.nbytes / setting.seconds(lambda: copy.copy_(big), 3) / 1e9)
    pinned = torch.zeros(n * n * 4, pin_memory=setting.device not in ("cpu", "mps"))
    seconds_up = setting.seconds(lambda: big.copy_(pinned, non_blocking=True), 3)
    yield Figure("copy from pinned memory, GB/s", pinned.nbytes / seconds_up / 1e9)
    for kind in ("jpeg", "png"):
        for processes in dict.fromkeys((1, count_processors())):
            rate = decoding_rate(setting, kind, processes)
            yield Figure(f"{kind.upper()} of {setting.scale.picture} px by {processes} processes, images/s", rate)


def decoding_rate(setting: Setting, kind: str, processes: int) -> float:
    """Images a second through decoding and resizing, by so many processes and as many threads that ask them."""
    dataset = open_dataset(f"image_folder:{setting.pictures(kind)}")
    decoding = open_decoding(dataset, "cuda", processes, setting.scale.batch)
    pool = decoding.fill.__self__  # type: ignore[attr-defined]
    assert isinstance(pool, DecodingPool)
    n = min(len(dataset), 128 * processes if setting.is_gpu else 8)
    rows, how = np.arange(n), Preprocessing(resize=setting.scale.side)

    def decode() -> None:
        decoding.fill(dataset, [Batch(how, rows)], Costs())

    wait_for(pool, processes)
    rate = n / seconds(decode)
    pool.close()
    return rate


def measure_forwards(setting: Setting) -> Iterator[Figure]:
    """Images a second of networks alone, eager and as graphs; some compiled."""
    for name in setting.scale.timed:
        for kind, rate in forward_rates(setting, name).items():
            limit = VIT_B_ON_H100 if name == VIT_B and kind == "best" and setting.is_h100 else None
            yield Figure(f"{name} {setting.runtime.precision} {kind}, images/s", rate, limit)
    for name in setting.scale.compiled:
        yield Figure(f"{name} compiled, images/s", _rate(setting, name, "torch-compile"))


def forward_rates(setting: Setting, name: str) -> dict[str, float]:
    """How it runs -> images a second."""
    rates = {"eager": _rate(setting, name, "torch")}
    with suppress(RuntimeError, NotImplementedError, AttributeError):  # devices without graphs
        rates["graph"] = _rate(setting, name, "torch", graph=True)
    return rates | {"best": max(rates.values())}


@torch.inference_mode()
def _rate(setting: Setting, name: str, engine: str, *, graph: bool = False) -> float:
    module, _ = setting.graph(name)
    network = Network(module, Runtime(engine, setting.device, setting.runtime.precision))
    pixels = torch.from_numpy(setting.pixels()).to(setting.device)
    try:
        network.build(pixels)
    except BackboneError as error:
        raise Skipped(error.what) from error
    if not graph:
        return setting.scale.batch / setting.seconds(lambda: network(pixels), setting.scale.passes)
    recorded = torch.accelerator.Graph()
    with torch.Stream(device=setting.device), recorded:
        network(pixels)
    return setting.scale.batch / setting.seconds(recorded.replay, setting.scale.passes)


def measure_extraction(setting: Setting) -> Iterator[Figure]:
    """From files to the store, as a share of what the slower of decoding and forwarding does alone."""
    name = setting.scale.timed[0]
    alone = forward_rates(setting, name)["best"]
    for kind in ("jpeg", "png"):
        folder = setting.pictures(kind)
        rate = extraction_rate(setting, folder, name)
        bound = min(alone, decoding_rate(setting, kind, count_processors()))
        yield Figure(f"{kind.upper()} to the store, {name}, images/s", rate)
        limit = SHARE if setting.is_gpu else None
        yield Figure(f"{kind.upper()} to the store, of the slower of decoding and forward", rate / bound, limit)
        yield Figure(f"{kind.upper()} to the store, share of time the GPU is busy", rate / alone)


def extraction_rate(setting: Setting, folder: Path, name: str) -> float:
    """Images a second from files to a fresh store, once the first are there: networks and processes have started."""
    dataset, scale = open_dataset(f"image_folder:{folder}"), setting.scale
    how: dict[str, Any] = {"engine": "torch", "device": setting.device, "precision": setting.runtime.precision}
    options = ExtractionOptions(weights="random:0", batch_size=scale.batch, **how)
    store = open_store(str(setting.folder / f"speed-{folder.name}"), mode="a", block_rows=2 * scale.batch)
    committed = [(perf_counter(), 0)]

    def progress(done: int, _total: int) -> None:
        committed.append((perf_counter(), done))

    extract_features(dataset, [name], [f"resize={scale.side}"], store, options, progress)
    (first, before), (last, after) = committed[len(committed) > 2], committed[-1]
    return (after - before) / (last - first)
