"""Small synthetic features, scikit-learn based stand-ins for the heads, and a store that is a dictionary.

A property may take as long as a busy machine needs: speed lives in benchmarks/.
"""

from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import settings
from sklearn.base import BaseEstimator, ClassifierMixin

from featurestore.registry import unknown_name
from featurestore.samples import SampleTable
from featurestore.store.features import FeatureSet
from featurestore.store.key import FeatureKey
from probes.heads.registry import HEADS
from probes.results.run import Run
from tests.object_server import CREDENTIALS, serve_objects

settings.register_profile("skyprobe", deadline=None)
settings.load_profile("skyprobe")


class Centroids(ClassifierMixin, BaseEstimator):
    """Softmax over negative squared distances to class means; records the rows it was shown."""

    protocols = ("cv", "paper")
    uses_validation = False

    def __init__(self, protocol="cv", random_state=0, scale=1.0):
        self.protocol = protocol
        self.random_state = random_state
        self.scale = scale

    def fit(self, X, y):
        self.seen_.append(X)
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == c].mean(axis=0) for c in self.classes_])
        self.chosen_ = {"n_rows": len(X), "drawn": float(np.random.default_rng(self.random_state).random())}
        return self

    def predict_proba(self, X):
        X = np.asarray(X, dtype=np.float64)
        logits = -self.scale * ((X[:, None, 1:] - self.means_[None, :, 1:]) ** 2).sum(axis=2)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def to_arrays(self):
        return {"means": self.means_, "classes": self.classes_, "scale": np.array(self.scale)}

    @classmethod
    def from_arrays(cls, arrays):
        head = cls(scale=float(arrays["scale"]))
        head.means_, head.classes_ = arrays["means"], arrays["classes"]
        return head


class Stopping(Centroids):
    """The same, and records the validation rows it was given."""

    uses_validation = True

    def fit(self, X, y, X_valid=None, y_valid=None):
        self.stopped_on_.append(X_valid)
        return super().fit(X, y)


class PlainOnly(Centroids):
    protocols = ("cv",)

    def __init__(self, scale=1.0):
        super().__init__(scale=scale)

    def get_params(self, deep=True):
        return {"scale": self.scale}


class DictStore:
    """Datasets and derived data in dictionaries, and how often the latter were written."""

    def __init__(self):
        self.entries = {}
        self.tables = {}
        self.puts = 0

    def datasets(self):
        return list(self.tables)

    def put_dataset(self, table):
        self.tables[table.name] = table

    def dataset(self, name):
        return self.tables[name]

    def source(self, name):
        return self.tables[name].source

    def sample_ids(self, name):
        return self.tables[name].sample_ids

    def get_cached(self, kind, digest):
        return self.entries.get((kind, digest))

    def put_cached(self, kind, digest, arrays, attributes):
        self.puts += 1
        self.entries[kind, digest] = SimpleNamespace(arrays=dict(arrays), attributes=dict(attributes))

    def list_cached(self, kind):
        return [digest for known, digest in self.entries if known == kind]


@pytest.fixture
def fake_heads(monkeypatch):
    """Stand-ins by name: centroids, stopping (takes validation rows), plain (no protocol, no seed)."""
    heads = {"centroids": Centroids, "stopping": Stopping, "plain": PlainOnly}

    def get(name):
        if name not in heads:
            raise unknown_name("head", name, heads)
        return heads[name]

    monkeypatch.setattr(HEADS, "get", get)
    monkeypatch.setattr(Centroids, "seen_", [], raising=False)
    monkeypatch.setattr(Stopping, "stopped_on_", [], raising=False)
    return heads


@pytest.fixture
def dict_store():
    return DictStore()


@pytest.fixture
def make_table():
    """``make_table(labels, splits=..., groups=...)``: ids are s000, s001, ... unless given."""

    def make(labels, *, splits=None, groups=None, ids=None, classes=None, **fields):
        labels = np.asarray(labels, dtype=np.int64)
        n = len(labels)
        return SampleTable(
            name="toy",
            sample_ids=tuple(ids) if ids is not None else tuple(f"s{i:03d}" for i in range(n)),
            labels={"kind": labels},
            classes={"kind": classes or tuple(f"c_{i}" for i in range(max(2, labels.max(initial=0) + 1)))},
            splits=np.asarray([""] * n if splits is None else splits, dtype=np.str_),
            fingerprints=np.zeros(n, dtype=np.uint64),
            groups=None if groups is None else np.asarray(groups, dtype=np.str_),
            **fields,
        )

    return make


@pytest.fixture
def make_key():
    def make(**changes):
        fields = {
            "preprocessing": {"resize": 224, "crop": "none"},
            "backbone": "net_b",
            "model_id": "timm:net",
            "revision": "main",
            "weights_hash": "0" * 64,
            "layer": "last",
            "engine": "torch",
            "precision": "fp32",
            "device": "cpu",
            "dtype": "float16",
        }
        return FeatureKey(**(fields | changes))

    return make


@pytest.fixture
def make_features(make_table, make_key):
    """Features of separable classes with some noise; column 0 holds the row number, so that rows can be told apart."""

    def make(labels, *, width=4, noise=1.0, unreadable=None, key=None, variant="full-224", pooling="cls", **table):
        table = make_table(labels, **table)
        rng = np.random.default_rng(7)
        centres = rng.normal(size=(len(table.classes["kind"]), width))
        values = centres[np.maximum(labels, 0)] + noise * rng.normal(size=(len(table), width))
        values[:, 0] = np.arange(len(table))
        return FeatureSet(
            variant=variant,
            backbone="net_b",
            pooling=pooling,
            key=key or make_key(),
            values=values.astype(np.float32),
            table=table,
            unreadable=unreadable or {},
        )

    return make


@pytest.fixture
def toy_features(make_features):
    """240 rows of 3 classes: 160 train, 40 valid, 40 test; 12 of the training rows have no label."""
    labels = np.arange(240) % 3
    labels[:12] = -1
    splits = ["train"] * 160 + ["valid"] * 40 + ["test"] * 40
    return make_features(labels, splits=splits)


@pytest.fixture
def make_grid():
    """``make_grid(heads=..., variants=..., fractions=..., seeds=..., **fields)``: runs whose scores all differ."""

    def make(heads=("linear",), variants=("full-224",), fractions=(10, 100), seeds=3, **fields):
        given = {"dataset": "toy", "backbone": "net_b", "pooling": "cls", "scheme": "kind", "protocol": "cv"}
        given |= {"classes": ("round", "bent", "double"), "truth": np.arange(90) % 3} | fields
        n, n_classes = len(given["truth"]), len(given["classes"])
        rng = np.random.default_rng(11)

        def run(variant, head, fraction, seed):
            logits = rng.normal(size=(n, n_classes))
            logits[np.arange(n), given["truth"]] += 0.5 + fraction / 100
            odds = np.exp(logits)
            own = {"variant": variant, "head": head, "fraction": fraction, "seed": seed, "key": f"key-{variant}"}
            own |= {"n_train": 8 * fraction, "n_valid": 0, "n_features": 4}
            own |= {"sample_ids": tuple(f"s{i}" for i in range(n))}
            probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
            return Run(**own | {"probabilities": probabilities} | given)

        return [run(v, h, f, s) for v in variants for h in heads for f in fractions for s in range(seeds)]

    return make


N_TEST = 240
TRUTH = np.arange(N_TEST) % 3


def predict(wrong, seed):
    """Probabilities with so many wrong rows; those of a smaller number are among those of a larger one."""
    order = np.random.default_rng(3).permutation(N_TEST)
    off = np.roll(order, seed)[:wrong]
    predicted = TRUTH.copy()
    predicted[off] = (predicted[off] + 1) % 3
    return (np.eye(3)[predicted] * 0.8 + 0.2 / 3).astype(np.float32)


@pytest.fixture
def make_runs():
    """``make_runs(wrong=60, seeds=3, **fields)``: runs with so many wrong test rows of 240."""

    def make(wrong=60, seeds=3, **fields):
        given = {
            "dataset": "toy",
            "variant": "full-224",
            "backbone": "dinov2-s",
            "pooling": "cls",
            "scheme": "kind",
            "head": "linear",
            "protocol": "cv",
            "fraction": 100,
            "n_valid": 0,
            "n_features": 384,
            "classes": ("round", "bent", "double"),
            "sample_ids": tuple(f"s{row}" for row in range(N_TEST)),
            "truth": TRUTH,
            "seconds": 30.0,
        } | fields
        given = {"key": f"{given['backbone']}/{given['variant']}", "n_train": 8 * given["fraction"]} | given
        return [Run(seed=seed, probabilities=predict(wrong, seed), **given) for seed in range(seeds)]

    return make


def _detect(jitter, backbone="vit", mode="frozen", seed=0, **changes):
    """A detector whose boxes miss by so many pixels."""
    from finetune.detection.results import DetectionRun
    from finetune.detection.targets import AnnotatedImage, Detections

    truth, rng = np.random.default_rng(1), np.random.default_rng(int(10 * jitter) + seed)
    corners = truth.uniform(0, 60, (12, 3, 2))
    boxes = np.concatenate([corners, corners + truth.uniform(10, 40, (12, 3, 2))], axis=2).astype(np.float32)
    labels = np.array([0, 1, 1])
    images = tuple(
        AnnotatedImage(row, f"{row}.png", (100, 100), one, labels, np.zeros(3, bool), np.ones(3))
        for row, one in enumerate(boxes)
    )
    moved = boxes + np.tile(rng.normal(0, jitter, (12, 3, 2)), 2).astype(np.float32)
    found = tuple(Detections(one, labels, rng.uniform(0.1, 1, 3).astype(np.float32)) for one in moved)
    run = DetectionRun("radio", "resize=64", backbone, mode, "all", 100, seed, 7, ("a", "b"), images, found)
    return replace(run, **changes)


@pytest.fixture(scope="session")
def make_run():
    """``make_run(jitter, backbone, mode, seed, **changes)``: a run on twelve drawn images."""
    return _detect


@pytest.fixture(scope="session")
def running_objects(tmp_path_factory):
    with serve_objects(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture
def object_server(running_objects, monkeypatch):
    """An S3 server that the environment points to, and which disturbs nothing yet; each test has buckets of its own."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": running_objects.url}.items():
        monkeypatch.setenv(name, value)
    running_objects.proxy.requests.clear()
    yield running_objects
    running_objects.proxy.choose = lambda method, path: None
    running_objects.proxy.delay = 0.0


@pytest.fixture
def bucket(object_server) -> str:
    name = f"b-{uuid4().hex[:12]}"
    object_server.make_bucket(name)
    return name
