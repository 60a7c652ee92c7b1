"""Read me and addresses of the distribution, for hatchling.

OPU_SIM_REPOSITORY is the address of a public repository, such as https://example.org/owner/opu-sim. If it is set when
the distribution is built, the pictures and links of the read me become absolute, so that an index page shows them, and
the project's addresses are added. Otherwise the read me is unchanged: its pictures appear in the repository only.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PAPER = "https://arxiv.org/abs/2012.06373"
RELATIVE = re.compile(r"(!?)(\[[^]]*\])\((?!https?://|#)([^)]+)\)")
"""A picture or a link of Markdown whose address is relative."""


class Addresses(MetadataHookInterface):
    """Sets ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both entries to the project's metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        host = os.environ.get("OPU_SIM_REPOSITORY", "").rstrip("/")
        urls = {"Paper": PAPER}
        if host:
            text = absolute(text, host, f"v{metadata['version']}")
            urls |= {"Homepage": host, "Changelog": f"{host}/blob/main/CHANGELOG.md", "Issues": f"{host}/issues"}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls


def absolute(text: str, host: str, tag: str) -> str:
    """Markdown in which pictures and links to files point to the repository at a tag."""
    return RELATIVE.sub(lambda at: f"{at[1]}{at[2]}({host}/{'raw' if at[1] else 'blob'}/{tag}/{at[3]})", text)
