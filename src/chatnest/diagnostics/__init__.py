"""Diagnostics: `doctor` looks at a configuration, `check` visits a deployment."""
