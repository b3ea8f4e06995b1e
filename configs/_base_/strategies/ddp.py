# Every rank holds the whole model; gradients are averaged. The plain runner, so every feature of it works.
strategy = None
