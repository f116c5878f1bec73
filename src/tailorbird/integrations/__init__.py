"""Outside systems, one module each: engine drivers, trackers, detectors, a notifier."""
