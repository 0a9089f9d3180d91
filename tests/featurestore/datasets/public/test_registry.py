from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from featurestore.datasets import dataset_kinds, open_dataset
from featurestore.datasets.public.registry import REMOTE, pair_claran_annotations


def test_annotations_of_claran_are_named_like_its_images(
    write_voc: Callable[..., None], write_images: Callable[..., Path], tmp_path: Path
) -> None:
    write_images("PNGImages/FIRSTJ1_logminmax.png", "PNGImages/FIRSTJ2_logminmax.png")
    for name in ("FIRSTJ1", "FIRSTJ2", "FIRSTJ3"):
        write_voc(tmp_path / "Annotations" / f"{name}.xml", ("1C_2P", 1, 1, 4, 4))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "trainD1.txt").write_text("FIRSTJ1_logminmax\n")
    (tmp_path / "ImageSets" / "Main" / "testD1.txt").write_text("FIRSTJ2_logminmax\n")
    for _ in range(2):
        pair_claran_annotations(tmp_path)
        assert open_dataset(f"rgz:{tmp_path}").table.splits.tolist() == ["train", "test"]
    assert (tmp_path / "unused" / "FIRSTJ3.txt").exists()


def test_every_published_file_has_an_address_and_a_well_formed_checksum() -> None:
    lengths = {"md5": 32, "sha256": 64}
    for remote in REMOTE.values():
        assert remote.terms and remote.kind in dataset_kinds()
        for file in remote.files:
            assert file.url.startswith(("http://", "https://")) and file.name
            if file.checksum:
                algorithm, _, digits = file.checksum.partition(":")
                assert len(bytes.fromhex(digits)) * 2 == lengths[algorithm]
