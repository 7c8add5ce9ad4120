"""Graphs with labels as a kind of data: read, fitted, scored, kept and predicted with."""
