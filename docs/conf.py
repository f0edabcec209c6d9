"""Configuration of Sphinx for the documentation site. `poe docs` builds it, without network, into build/docs.

Sphinx, because numpy, scikit-learn and the array API standard use it for docstrings of this kind. MyST reads the pages,
which are plain Markdown, so that they can also be read where they are. Mathematics is set by a copy of MathJax that is
part of the site. `repository_pages` makes links to other files of the repository work.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "extensions")]

from xpnn.version import __version__  # noqa: E402

project = "xpnn"
author = "xpnn developers"
copyright = "xpnn developers; BSD 3-Clause licence"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "repository_pages",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["extensions"]
root_doc = "index"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 6  # those of GitHub
myst_dmath_double_inline = True

default_role = "py:obj"  # a name in single backticks is a link if it is public, and code otherwise
autodoc_typehints = "none"  # the docstrings have the types
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "exclude-members": "set_fit_request, set_partial_fit_request, set_score_request",  # scikit-learn's
}
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_param = False  # the types are prose, and no names to link to
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"xpnn {__version__}"
html_static_path = ["static"]
html_css_files = ["xpnn.css"]
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"
