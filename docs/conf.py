"""Configuration of the documentation site: ``make docs`` builds it into build/docs."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "opu-sim"
author = copyright = "The opu-sim developers"
version = release = installed("opu-sim")
html_title = "opu-sim"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.extensions.commands",
    "docs.extensions.formulas",
    "docs.extensions.gallery",
    "docs.extensions.imports",
    "docs.extensions.names",
    "docs.extensions.parameters",
    "docs.extensions.citation",
]
exclude_patterns = ["**/_*.md"]
suppress_warnings = ["config.cache"]  # functions in the configuration: the environment is not stored between builds
nitpicky = True  # explicit references must exist; `name` in a docstring may also be a parameter or a private name
nitpick_ignore_regex = [("py:obj", ".*")]

# Text: MyST, with the outputs that are stored in the notebooks
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
html_math_renderer = "mathml"
nb_execution_mode = "off"
nb_merge_streams = True

# Docstrings: numpydoc; `name` links to a public object if there is one, and is plain code otherwise
default_role = "autolink"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
templates_path = ["templates"]

# Pages
html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_as_you_type": False,
}
html_show_sourcelink = False
