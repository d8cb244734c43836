"""Ways to run a cell over time."""
