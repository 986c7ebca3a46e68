"""Everything that is attacked. A new surface is a file that gives a `SURFACE`, and a place in this list."""

from tests.attack import adapters, corpora, disks, flags, kills, recordings, texts

SURFACES = {module.SURFACE.name: module.SURFACE for module in (adapters, recordings, corpora, texts, flags, disks, kills)}
