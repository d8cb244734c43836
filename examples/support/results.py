"""What the examples print at their end."""


def print_table(title, rows, digits=3):
    """A figure, and those of the baselines beside it: ``{name: number}``."""
    print(title)
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value:.{digits}f}")
