"""Configuration: builds a ChatNestApp from a TOML file, the environment and flags."""
