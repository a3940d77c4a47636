"""Which release this is.

The version belongs to the content of the package, never to a setting: a setting would stay behind
when slots are swapped, and the page would then name the wrong release.
"""

from pathlib import Path

VERSION = (Path(__file__).parents[2] / "VERSION").read_text(encoding="utf-8").strip()
