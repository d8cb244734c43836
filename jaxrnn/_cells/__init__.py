"""The cells: one file, one cell, one page of maths."""
