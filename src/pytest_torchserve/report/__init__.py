"""Saved runs: read (`saved`, `history`), and shown in a terminal (`terminal`) and as a page (`html`)."""
