"""Access log, metrics, rules and dashboard."""
