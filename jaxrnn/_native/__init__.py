"""Loops over time compiled from C++, for CPUs: the sources are in ``kernels/``."""
