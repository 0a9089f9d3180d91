"""Frozen vision models: a catalogue, one adapter a library, and the engines that run them."""
