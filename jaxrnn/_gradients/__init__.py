"""Other ways to gradients: forward in time, by lag, one step at a time."""
