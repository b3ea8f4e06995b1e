"""Necks: from backbone maps to the maps that heads take."""
