"""Images from their sources to batches on the device."""

from roadmap.data.build import open_loaders
from roadmap.data.loaders import Loaders

__all__ = ["Loaders", "open_loaders"]
