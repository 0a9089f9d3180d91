"""examine: everything that the doctor looks at, within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from studies.doctor.downloads import examine_caches, examine_network, examine_weights
from studies.doctor.finding import Finding
from studies.doctor.libraries import examine_libraries
from studies.doctor.machine import examine_machine
from studies.doctor.stores import examine_store


def examine(store: str | None, backbones: Sequence[str] = (), *, load_torch: bool = False) -> list[Finding]:
    """What this machine has and lacks.

    Args:
        store: A folder or URL; the default store for None.
        backbones: Backbones whose weights are looked for.
        load_torch: Whether torch is loaded and tried on every device, which takes seconds.

    Raises:
        UnknownNameError: No backbone has that name.
    """
    with ThreadPoolExecutor(1) as pool:
        network = pool.submit(examine_network)  # a hub that does not answer takes seconds
        weights = list(examine_weights(backbones))
        machine = list(examine_machine(load_torch=load_torch))
        has_gpu = any(one.part == "gpu" and one.state != "note" for one in machine)
        return [
            *machine,
            *examine_libraries(has_gpu=has_gpu),
            *weights,
            *examine_caches(),
            *examine_store(store),
            network.result(),
        ]
