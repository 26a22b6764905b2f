"""The connections to a model's server, within bounds. They know HTTP, and no model."""
