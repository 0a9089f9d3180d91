from .features import FeatureSet as FeatureSet
from .key import FeatureKey as FeatureKey
from .opening import default_store_path as default_store_path
from .opening import is_store as is_store
from .opening import open_store as open_store
from .store import FeatureStore as FeatureStore
