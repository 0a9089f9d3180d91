from . import errors as errors
from .store.features import FeatureSet as FeatureSet
from .store.key import FeatureKey as FeatureKey
from .store.store import FeatureStore as FeatureStore
from .store.store import open_store as open_store
