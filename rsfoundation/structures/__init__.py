"""What coordinates mean, and the label format that carries them; see :mod:`.boxes` for the conventions."""
