"""What a run is asked for, as frozen records that check themselves. Knows neither torch nor Hydra."""
