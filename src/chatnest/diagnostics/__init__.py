"""Diagnostics: `doctor` inspects a configuration, `check` probes a deployment."""
