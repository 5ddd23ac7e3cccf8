"""Where and how a run is carried out: device, processes, requests to stop, launchers."""
