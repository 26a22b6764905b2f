"""Work and memory, counted: the same on every machine."""
