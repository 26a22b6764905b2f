"""The documentation site: ``nox -s docs`` builds docs/ and the docstrings into build/docs/site."""
