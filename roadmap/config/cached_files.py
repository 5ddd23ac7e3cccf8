"""Hydra on ``conf/`` with a config source that parses each file once per process."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import hydra.conf
from hydra import version
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

from roadmap.config.conf_dir import config_dir

SCHEME = "once"
# Hydra's own files, which every composition reads too
HYDRAS_OWN = {"pkg://hydra.conf": f"{SCHEME}://{Path(hydra.conf.__file__).parent}"}


class FilesOnce(FileConfigSource):
    """Hydra's own file source with a cache, keyed by modification time and size.

    The steps of a path share nearly all files, and parsing them takes a third of a composition.
    """

    # (place on the search path, file, when it was changed, size) -> what is in it
    parsed: dict[tuple[str, str, int, int], ConfigResult] = {}  # noqa: RUF012 - shared by all sources, on purpose

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a copy of a parsed file, because Hydra removes the defaults list from it."""
        file = Path(self.path, self._normalize_file_name(config_path))
        state = file.stat()
        key = (self.provider, str(file), state.st_mtime_ns, state.st_size)
        if key not in self.parsed:
            self.parsed[key] = super().load_config(config_path)
        return deepcopy(self.parsed[key])


Plugins.instance().register(FilesOnce)


@contextmanager
def initialized() -> Iterator[None]:
    """Initialize Hydra on ``conf/`` as ``hydra.initialize_config_dir`` does, with cached files.

    Inside a Hydra application, the application's own Hydra is restored on exit.
    """
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    try:
        places = create_config_search_path(f"{SCHEME}://{config_dir()}")
        for place in places.get_path():
            place.path = HYDRAS_OWN.get(place.path, place.path)
        Hydra.create_main_hydra2("app", places)
        yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)
