"""Running things: configs, options, devices, ranks, runners, run records and checks."""
