"""For mkdocs: links from a page into the source tree, which no site has, become plain text. Their
targets are checked by tests/test_documents.py. Knows links; never what a page says."""

import re
from typing import Any

INTO_SOURCES = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return INTO_SOURCES.sub(r"`\1`", markdown)
