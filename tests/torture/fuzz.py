"""Hostile inputs: valid small files of every kind, mutated, given to their readers.

    python -m tests.torture.fuzz COUNT SEED FOLDER

Prints one line of JSON for each fault, and one at the end: how many inputs of each kind were refused and read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

SECONDS = 20
BUDGET_MIB = 16
"""Budget of one image, see featurestore/datasets/budget.py."""

MEMORY_MIB = 8 * BUDGET_MIB
"""What one input may add to the memory of the process: file and pixels within their budgets, and the copies of both."""

_WORDS = (b"\x00", b"\xff" * 4, b"-1", b"1e999", b"NaN", b"99999999999999999999", b"{", b"[", b'"', b"'", b"<", b"\n",
          b"%s", b"../../x", b"\x1b[2J", b"\xed\xa0\x80", b"null", b"true", b",,,,", b"[" * 2000,
          b"\x7f\xff\xff\xff")  # fmt: skip

CHECKED = ("png", "png16", "fits.gz")
"""Kinds whose every byte of an image is under a checksum: what is read at all is what was written."""


def mutate(raw: bytes, rng: Random) -> bytes:
    """One to four changes: bits, runs, words, numbers."""
    data = bytearray(raw)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(min(len(data), rng.choice([64, 512, 10**9])) or 1) if data else 0
        length = rng.choice([1, 2, 4, 16, 256])
        how = rng.randrange(6)
        if how == 0 and data:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[place : place + length]
        elif how == 2:
            data[place:place] = data[place : place + length] * rng.choice([1, 2, 50])
        elif how == 3:
            word = rng.choice(_WORDS)
            data[place : place + rng.choice([0, len(word)])] = word
        elif how == 4:
            data[place:] = b""
        else:
            data[place : place + length] = rng.randbytes(length)
    return bytes(data)


def seeds(folder: Path) -> dict[str, Path]:
    """Kind of input -> a valid one: a file, or the file in a folder that is to be changed."""
    import pandas as pd
    from astropy.io import fits
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (12, 14), dtype=np.uint8)
    colour = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
    found: dict[str, Path] = {}

    def place(kind: str, name: str) -> Path:
        (folder / kind).mkdir(exist_ok=True)
        found[kind] = folder / kind / name
        return found[kind]

    for suffix in ("png", "jpg", "tif", "gif", "bmp", "webp", "ppm"):
        Image.fromarray(colour).save(place(suffix, f"a.{suffix}"))
    Image.fromarray(grey.astype(np.uint16) * 200).save(place("png16", "a.png"))
    fits.PrimaryHDU(grey.astype(np.float32)).writeto(place("fits", "a.fits"), checksum=True)
    fits.CompImageHDU(grey.astype(np.int16)).writeto(place("fits-rice", "a.fits"))
    place("fits.gz", "a.fits.gz").write_bytes(gzip.compress(found["fits"].read_bytes()))
    np.save(place("npy", "images.npy"), np.stack([grey, grey]))
    Image.fromarray(grey).save(folder / "grey.png")
    frame = pd.DataFrame({"file": ["a.png", "b.png"], "label": ["x", "y"], "ra": [1.5, 2.5], "dec": [0.5, -0.5]})
    for kind, write in {"csv": frame.to_csv, "parquet": frame.to_parquet}.items():
        write(place(kind, f"cat.{kind}"), index=False)
        for name in ("a.png", "b.png"):
            shutil.copy(folder / "grey.png", folder / kind / name)
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 14, "height": 12}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "x"}],
    }
    place("coco", "annotations.json").write_text(json.dumps(coco))
    shutil.copy(folder / "grey.png", folder / "coco" / "a.png")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    size = "<size><width>14</width><height>12</height><depth>1</depth></size>"
    place("voc", "Annotations/a.xml").parent.mkdir(exist_ok=True)
    found["voc"].write_text(
        f"<annotation><filename>a.png</filename>{size}<object><name>x</name>{box}</object></annotation>"
    )
    (folder / "voc" / "JPEGImages").mkdir(exist_ok=True)
    shutil.copy(folder / "grey.png", folder / "voc" / "JPEGImages" / "a.png")
    study = 'datasets = ["data"]\nbackbones = ["efficientnet-lite0"]\nvariants = ["full-224"]\n[probe]\nseeds = 2\n'
    place("study", "study.toml").write_text(study)
    _add_weights(place)
    golden = Path(__file__).parents[1] / "featurestore" / "store" / "golden" / "format-2"
    for name in ("zarr.json", "attributes", "array"):
        shutil.copytree(golden, folder / name / "store.zarr", dirs_exist_ok=True)
        found[name] = folder / name / "store.zarr" / "zarr.json"
    found["attributes"] = next((folder / "attributes").glob("store.zarr/features/*/*/*/*/zarr.json"))
    found["array"] = next((folder / "array").glob("store.zarr/features/*/*/*/*/*/values/zarr.json"))
    return found


def _add_weights(place: Callable[[str, str], Path]) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {"weight": torch.zeros(2, 2), "bias": torch.ones(2)}
    save_file(tensors, place("safetensors", "w.safetensors"))
    torch.save(tensors, place("pt", "w.pt"))


def read(kind: str, path: Path) -> tuple[str, ...]:
    """What a user would do with it; digests of the images that come out."""
    from featurestore.backbones.weights import read_state_dict
    from featurestore.store import open_store

    if kind in {"safetensors", "pt"}:
        read_state_dict(path)
    elif kind in {"zarr.json", "attributes", "array"}:
        root = next(parent for parent in path.parents if parent.name == "store.zarr")
        store = open_store(str(root))
        for name in store.datasets():
            store.dataset(name)
        for entry in store.find():
            for pooling in entry.shapes:
                entry.read(pooling, allow_partial=True)
    elif kind == "study":
        from studies.study_file.reader import read_study

        read_study(path, lambda _text: None)
    else:
        return _read_dataset(path.parent.parent if kind == "voc" else path.parent)
    return ()


def _read_dataset(path: Path) -> tuple[str, ...]:
    from featurestore.datasets import open_dataset
    from featurestore.errors import UnreadableImageError

    dataset = open_dataset(str(path))
    refused, found = None, []
    for row in range(min(3, len(dataset.table))):
        try:
            found.append(hashlib.sha256(dataset.read(row).image.tobytes()).hexdigest())
        except UnreadableImageError as error:
            refused = error
    if refused:
        raise refused
    return tuple(found)


class TooSlowError(BaseException):
    """Nothing catches it."""


def _stop(number: int, frame: object) -> None:
    raise TooSlowError


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempt(kind: str, path: Path, right: tuple[str, ...] | None = None) -> tuple[str, str]:
    """``read``, ``refused``, or what is wrong, with the trace or reason.

    Args:
        kind: Kind of input.
        path: The file.
        right: Digests of the images that have to come out, where any do.
    """
    from featurestore.errors import SkyprobeError

    before, started = _peak(), time.monotonic()
    signal.alarm(SECONDS)
    try:
        found = read(kind, path)
        outcome, trace = ("read", "") if right in {None, found} else ("wrong row", str(path))
    except SkyprobeError as error:
        outcome, trace = ("refused", str(error)) if error.hint and error.where else ("no hint", str(error))
    except TooSlowError:
        outcome, trace = "hang", f"{time.monotonic() - started:.0f} s"
    except BaseException:
        outcome, trace = "traceback", traceback.format_exc()[-1500:]
    finally:
        signal.alarm(0)
    if (grown := _peak() - before) > MEMORY_MIB:
        outcome, trace = "memory", f"{grown:.0f} MiB"
    return outcome, trace


def main() -> None:
    """See the head of this file."""
    count, seed, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    os.environ["SKYPROBE_MAX_IMAGE_MIB"] = str(BUDGET_MIB)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    valid = seeds(folder)
    originals = {kind: path.read_bytes() for kind, path in valid.items()}
    right = {kind: read(kind, valid[kind]) for kind in CHECKED}
    for kind, path in valid.items():  # warm: libraries that are loaded now are not counted later
        outcome, trace = attempt(kind, path)
        if outcome not in {"read", "memory"}:
            print(json.dumps({"kind": kind, "outcome": f"a valid input: {outcome}", "trace": trace}))
    tally: Counter[str] = Counter()
    for number in range(count):
        rng = Random(f"{seed} {number}")
        kind = sorted(valid)[number % len(valid)]
        valid[kind].write_bytes(mutate(originals[kind], rng))
        outcome, trace = attempt(kind, valid[kind], right.get(kind))
        tally[outcome] += 1
        if outcome not in {"read", "refused"}:
            print(json.dumps({"kind": kind, "number": number, "outcome": outcome, "trace": trace}), flush=True)
        valid[kind].write_bytes(originals[kind])
    print(json.dumps({"kinds": len(valid), "tally": dict(tally), "peak_mib": round(_peak())}))


if __name__ == "__main__":
    main()
