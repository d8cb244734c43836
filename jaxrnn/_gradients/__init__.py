"""Other ways to compute gradients: forward in time, by lag, by single steps."""
