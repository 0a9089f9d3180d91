from .features import FeatureSet as FeatureSet
from .key import FeatureKey as FeatureKey
from .store import FeatureStore as FeatureStore
from .store import default_store_path as default_store_path
from .store import open_store as open_store
