"""Images from their sources to batches on the device."""

from roadmap.data.loaders import Loaders, open_loaders

__all__ = ["Loaders", "open_loaders"]
