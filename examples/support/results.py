"""Printed results of the examples."""


def print_table(title, rows, digits=3):
    """Print a result and its baselines: ``{name: number}``."""
    print(title)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value:.{digits}f}")
