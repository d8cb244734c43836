"""Cells made of another cell."""
