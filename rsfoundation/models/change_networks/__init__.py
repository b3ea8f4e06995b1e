"""Change-detection networks that are not split into backbone, neck and head."""
