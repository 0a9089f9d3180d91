"""Executors: what goes over the blocks of an extraction with several processes or machines."""
