"""Cells, layers and unrolls that say what they are: their factory and its arguments."""
