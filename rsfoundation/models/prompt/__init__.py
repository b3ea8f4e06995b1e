"""Promptable parts of Segment Anything: prompt encoder, mask decoder, and their registered wrappers."""
