"""Where a run is executed: device, processes, signals, launchers, progress."""
