"""Networks by kind: backbones, encoders, necks, heads, detectors, segmentors. Registered on first use."""
