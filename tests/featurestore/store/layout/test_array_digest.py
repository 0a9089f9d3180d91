from __future__ import annotations

import numpy as np

from featurestore.store.layout.array_digest import arrays_digest


def test_the_digest_sees_names_types_shapes_and_bytes() -> None:
    arrays = [
        {"a": np.arange(6, dtype="<i4")},
        {"b": np.arange(6, dtype="<i4")},
        {"a": np.arange(6, dtype="<u4")},
        {"a": np.arange(6, dtype="<i4").reshape(2, 3)},
        {"a": np.array([0, 1, 2, 3, 4, 6], dtype="<i4")},
    ]
    digests = [arrays_digest(one, {}) for one in arrays] + [arrays_digest(arrays[0], {"x": 1})]
    assert len(set(digests)) == len(digests)
    assert arrays_digest({"a": np.arange(12)[::2]}, {}) == arrays_digest({"a": np.arange(0, 12, 2)}, {})
