"""Layers: a cell run over time, maps of each step, and layers of layers."""
