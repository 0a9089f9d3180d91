from . import errors as errors
from .store.features import FeatureSet as FeatureSet
from .store.key import FeatureKey as FeatureKey
from .store.opening import open_store as open_store
from .store.store import FeatureStore as FeatureStore
