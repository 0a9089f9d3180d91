"""How a store is laid out in Zarr: names, arrays, blocks and their commits. Users go through `featurestore.store`."""
