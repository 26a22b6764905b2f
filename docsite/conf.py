"""Settings of Sphinx for the site. The sources are those that docsite.sources writes."""

from typing import Any

from sphinx.application import Sphinx

from docsite.reference import source_address
from docsite.search import SearchWithNumbers

project = "chatnest"
author = "The chatnest authors"
copyright = author  # noqa: A001  # Sphinx's name
language = "en"
nitpicky = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.linkcode"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False  # thousands of members: every page's navigation would copy them
suppress_warnings = ["misc.highlighting_failure"]  # Pygments does not know all of JSX

html_theme = "furo"
html_title = "chatnest"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("search.js", {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#6cb6ff", "color-brand-content": "#6cb6ff"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_search_language(SearchWithNumbers)


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The address of an object's source in the repository, for its ``[source]`` link."""
    return source_address(info["module"], info["fullname"]) if domain == "py" else None
