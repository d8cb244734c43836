"""Products, activations and normalisations that the steps of cells compute with."""
