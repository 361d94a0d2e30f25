"""Everything around the equation: trees, dtypes, decay, clipping, guards, storage, telemetry."""
